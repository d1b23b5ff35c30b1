package report

import (
	_ "embed"
	"regexp"
	"strings"

	"postern/tracking/bounce"
	"postern/tracking/event"
)

// reasonLabel matches a line with a label such as "Reason:". Group 1 is the reason.
var reasonLabel = regexp.MustCompile(`(?im)^[\s*>\-]*(?:the )?` + anyOf(
	"error(?: message| text| type)?", "reason(?: code)?", "cause", "diagnosis", "diagnostic(?: code| information)?",
	"problem", "explanation", "grund", "ursache", "fehler(?:meldung)?", "motif", "raison", "erreur", "motivo", "causa",
	"raz[oó]n", "errore", "erro", "reden", "oorzaak", "fout", "pow[oó]d", "przyczyna", "b[lł][aą]d",
	"причина", "ошибка", "(?:退信)?原因", "错误", "エラー(?:内容)?", "理由",
) + `[ \t]*[:：=][ \t]*(\S.*)$`)

// labelledReason returns the first reason in a notice that has a label and known
// words, or "".
func labelledReason(shown string) string {
	for _, m := range reasonLabel.FindAllStringSubmatch(event.Clip(shown, maxDiagnostic), 4) {
		if bounce.Words(m[1], "").Found {
			return strings.TrimSpace(m[1])
		}
	}

	return ""
}
