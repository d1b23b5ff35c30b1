package bounce

import (
	"strings"
)

// strongStatus are the enhanced status codes (RFC 3463, RFC 7505), without their
// class, that usually say more than the words beside them. Hard ones count less
// than words that give another reason: 550 5.1.1 message identified as spam.
var strongStatus = map[string]Verdict{
	"1.1":  {InvalidRecipient, true},
	"1.2":  {DNSFailure, true},
	"1.6":  {InvalidRecipient, true},
	"1.7":  {MailBlock, false},
	"1.8":  {MailBlock, false},
	"1.10": {InvalidRecipient, true},
	"2.2":  {MailboxFull, false},
	"2.3":  {TooLarge, false},
	"3.4":  {TooLarge, false},
}

// weakStatus are codes that servers use for many reasons, so words count more.
var weakStatus = map[string]Verdict{
	"1.3":   {InvalidRecipient, true},
	"1.4":   {SoftBounce, false},
	"1.9":   {AdminFailure, false},
	"2.1":   {SoftBounce, false},
	"3.0":   {AdminFailure, false},
	"3.1":   {MailboxFull, false},
	"3.2":   {AdminFailure, false},
	"3.3":   {AdminFailure, false},
	"3.5":   {AdminFailure, false},
	"3.6":   {AdminFailure, false},
	"4.0":   {Timeout, false},
	"4.1":   {Timeout, false},
	"4.2":   {Timeout, false},
	"4.3":   {DNSFailure, false},
	"4.4":   {DNSFailure, true},
	"4.5":   {Timeout, false},
	"4.6":   {AdminFailure, false},
	"4.7":   {Timeout, false},
	"4.14":  {AdminFailure, false}, // this and 4.310 to 4.317: Exchange Online
	"4.310": {DNSFailure, true},
	"4.312": {DNSFailure, false},
	"4.316": {Timeout, false},
	"4.317": {Timeout, false},
	"5.3":   {TooLarge, false},
	"6.0":   {SpamContent, false},
	"7.13":  {SoftBounce, false},      // the account is disabled (RFC 5248)
	"7.16":  {TooLarge, false},        // for its priority (RFC 6710)
	"7.17":  {InvalidRecipient, true}, // the mailbox has another owner (RFC 7293)
	"7.18":  {DNSFailure, true},       // and the domain
}

// weakSubjects are the subjects of the codes that are not in weakStatus.
var weakSubjects = map[string]Verdict{
	"2": {SoftBounce, false},
	"6": {SpamContent, false},
	"7": {MailBlock, false},
}

// byStatus returns the verdict for a status code without its class; ok is false if
// nothing is known of it.
func byStatus(detail string) (v Verdict, ok bool) {
	v, ok = weakStatus[detail]
	if ok {
		return v, true
	}

	subject, _, _ := strings.Cut(detail, ".")
	v, ok = weakSubjects[subject]

	return v, ok
}
