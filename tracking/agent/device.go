package agent

import (
	_ "embed"
	"strings"

	"github.com/mileusna/useragent"
)

// withoutDevice returns the field of an Android program without the name of its
// device, which may contain any words.
func withoutDevice(field string) string {
	open := strings.IndexByte(field, '(')
	if open < 0 {
		return field
	}

	end := open + commentLength(field[open:])
	comment := field[open:end]
	at := strings.Index(comment, "Android")
	if at < 0 {
		return field
	}

	semicolon := strings.IndexByte(comment[at:], ';')
	if semicolon < 0 {
		return field
	}

	return field[:open+at+semicolon] + field[max(open, end-1):]
}

// commentLength returns the length of the comment that s begins with. Comments nest
// (RFC 9110 section 5.6.5).
func commentLength(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}

	return len(s)
}

// brands are the makers of Android devices, by prefixes of the devices' names.
var brands = []struct{ start, brand string }{
	{"SM-", "Samsung"},
	{"GT-", "Samsung"},
	{"Samsung", "Samsung"},
	{"SAMSUNG", "Samsung"},
	{"Pixel", "Google"},
	{"Nexus", "Google"},
	{"Redmi", "Xiaomi"},
	{"POCO", "Xiaomi"},
	{"Mi ", "Xiaomi"},
	{"M20", "Xiaomi"},
	{"220", "Xiaomi"},
	{"230", "Xiaomi"},
	{"231", "Xiaomi"},
	{"240", "Xiaomi"},
	{"HUAWEI", "Huawei"},
	{"ONEPLUS", "OnePlus"},
	{"moto", "Motorola"},
	{"LM-", "LG"},
	{"LG-", "LG"},
	{"Nokia", "Nokia"},
	{"CPH", "OPPO"},
	{"RMX", "realme"},
	{"vivo", "vivo"},
	{"V20", "vivo"},
	{"V21", "vivo"},
	{"HTC", "HTC"},
	{"XQ-", "Sony"},
	{"Xperia", "Sony"},
	{"KF", "Amazon"},
}

// anyDevice is the name of all devices in Chrome's reduced User-Agent.
const anyDevice = "K"

// device returns the maker and the name of a device.
func device(u useragent.UserAgent) (brand, family string) {
	switch {
	case u.Device == "iPhone" || u.Device == "iPad":
		return "Apple", u.Device
	case u.OS == useragent.MacOS:
		return "Apple", "Mac"
	case u.OS == useragent.Android && u.Device != "" && u.Device != anyDevice:
		for _, b := range brands {
			if strings.HasPrefix(u.Device, b.start) {
				return b.brand, u.Device
			}
		}
		return "Generic_Android", u.Device
	case u.OS == useragent.Android:
		return "Generic", "Generic Smartphone"
	}

	return "", "Other"
}
