package accounting

import (
	"slices"
	"strings"
)

// column is one of the columns that are read.
type column int

const (
	colType column = iota
	colTimeLogged
	colTimeQueued
	colOrig
	colRcpt
	colStatus
	colDiag
	colCategory
	colSourceIP
	colDestinationIP
	colSize
	colVMTA
	colPool
	colJob
	colEnvID
	colSecondsQueued
	colFeedbackType
	colReportingMTA
	colUserAgent
	colReportedDomain
	colMessageID
	columns // how many there are
)

// columnNames are PowerMTA's names in lower case. That of the message id is
// configured.
var columnNames = [columns]string{
	colType:           "type",
	colTimeLogged:     "timelogged",
	colTimeQueued:     "timequeued",
	colOrig:           "orig",
	colRcpt:           "rcpt",
	colStatus:         "dsnstatus",
	colDiag:           "dsndiag",
	colCategory:       "bouncecat",
	colSourceIP:       "dlvsourceip",
	colDestinationIP:  "dlvdestinationip",
	colSize:           "dlvsize",
	colVMTA:           "vmta",
	colPool:           "vmtapool",
	colJob:            "jobid",
	colEnvID:          "envid",
	colSecondsQueued:  "totalsecondsqueued",
	colFeedbackType:   "feedbacktype",
	colReportingMTA:   "reportingmta",
	colUserAgent:      "useragent",
	colReportedDomain: "reporteddomain",
}

// layout is the fields that PowerMTA writes of a type of record by default.
type layout struct {
	columns string
	mark    string // a column that no other type has, in lower case
	more    bool   // fields of header_NAME and arf_NAME may follow, the message id's being the first
}

// ownLayouts are the records whose fields are others than those of d, b and t
// (PowerMTA User's Guide, section 11.2). A file has one header line, that of its
// first type, whatever else is written to it.
var ownLayouts = map[string]layout{
	"rb": {
		columns: "type,timeLogged,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,dsnReportingMTA,bounceCat," +
			"srcType,srcMta,envId,format",
		mark: "dsnreportingmta",
	},
	"f": {
		columns: "type,timeLogged,repSourceIp,feedbackType,format,userAgent,envid,orig,rcpt,reportingMTA,dlvSourceIp," +
			"reportedDomain",
		mark: "feedbacktype",
		more: true,
	},
}

func (l layout) converter(set Settings, retries *counts) *converter {
	names := strings.Split(strings.ToLower(l.columns), ",")
	c := &converter{set: set, retries: retries, width: len(names)}
	for col, name := range columnNames {
		c.columns[col] = slices.Index(names, name)
	}
	c.columns[colMessageID] = -1
	if l.more {
		c.columns[colMessageID] = len(names)
	}

	return c
}

// isHeader reports whether a record is a header line: its first field is "type".
func isHeader(fields []string) bool {
	return len(fields) > 0 && strings.EqualFold(strings.TrimSpace(strings.TrimPrefix(fields[0], "\ufeff")), "type")
}
