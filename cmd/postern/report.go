package main

import (
	"encoding/json"
	"errors"
	"os"

	"postern/tracking/report"
	"postern/tracking/token"
)

type reportCmd struct {
	Keys   string   `type:"existingfile" help:"Token key file, to verify message ids with." placeholder:"FILE"`
	Header string   `default:"X-Sp-Message-Id" help:"Header field with the message id."`
	Files  []string `arg:"" help:"Messages, one a file."`
}

func (c *reportCmd) Help() string {
	return "Prints a line for each recipient, or one without a recipient if there is none.\n" +
		"With --keys it adds message ids that verify, and the recipient sealed in a token.\n" +
		"Example: postern report --keys token.keys bounce.eml"
}

// reportLine is what `postern report` prints.
type reportLine struct {
	File      string `json:"file"`
	Kind      string `json:"kind"`
	Recipient string `json:"recipient"`
	Status    string `json:"status"`
	ReplyCode string `json:"reply_code"`
	Class     int    `json:"class"`
	Hard      bool   `json:"hard"`
	Reason    string `json:"reason"`
	FBType    string `json:"fbtype"`
	MessageID string `json:"message_id"`
	SealedTo  string `json:"sealed_to,omitempty"` // whom a token of the copy was sealed for: the event's recipient
}

func (c *reportCmd) Run(e *env) error {
	var finder *report.Finder
	if c.Keys != "" {
		keys, err := token.ReadKeys(c.Keys)
		if err != nil {
			return err
		}
		finder = &report.Finder{Keys: keys, Header: c.Header}
	}

	out := json.NewEncoder(e.stdout)
	out.SetEscapeHTML(false)

	var errs []error
	for _, name := range c.Files {
		msg, err := os.ReadFile(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, l := range reportLines(name, msg, finder) {
			if err := out.Encode(l); err != nil {
				return err
			}
		}
	}

	return errors.Join(errs...)
}

func reportLines(name string, msg []byte, finder *report.Finder) []reportLine {
	r := report.Parse(msg)
	id, sealedTo := "", ""
	if finder != nil {
		if f, ok := finder.Find(r, msg, report.Addressees(msg)); ok {
			id, sealedTo = f.ID.String(), f.Recipient
		}
	}

	recipients := r.Recipients
	if len(recipients) == 0 {
		recipients = []report.Recipient{r.Nameless()}
	}

	var out []reportLine
	for _, c := range recipients {
		out = append(out, reportLine{
			File:      name,
			Kind:      string(c.Kind),
			Recipient: c.Address(),
			Status:    c.Status,
			ReplyCode: c.ReplyCode,
			Class:     c.Class,
			Hard:      c.Hard,
			Reason:    c.Diagnostic,
			FBType:    r.FeedbackType,
			MessageID: id,
			SealedTo:  sealedTo,
		})
	}

	return out
}
