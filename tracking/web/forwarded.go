package web

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"postern/tracking/token"
)

// forwarded is an element of a Forwarded field (RFC 7239 section 4), with the
// parameters that are used.
type forwarded struct {
	node string // for=
	host string // host=
}

var errForwarded = errors.New("web: malformed entry of a proxy")

// nodes returns what the proxies say who their clients were, the nearest proxy
// last, from X-Forwarded-For, or from Forwarded if there is no such field.
func nodes(h http.Header) ([]string, error) {
	if out := listed(h, "X-Forwarded-For"); len(out) > 0 {
		return out, nil
	}

	elements, err := readForwarded(h)
	if err != nil {
		return nil, err
	}

	var out []string
	for _, e := range elements {
		out = append(out, e.node)
	}

	return out, nil
}

// forwardedHost returns the host that the nearest proxy was asked for, in the form
// of token.Host: the last one of X-Forwarded-Host, or of Forwarded if there is no
// such field. It is empty if neither names a host.
func forwardedHost(h http.Header) (string, error) {
	last := ""
	if out := listed(h, "X-Forwarded-Host"); len(out) > 0 {
		last = unquoted(out[len(out)-1])
	} else {
		elements, err := readForwarded(h)
		if err != nil {
			return "", err
		}

		for _, e := range elements {
			if e.host != "" {
				last = e.host
			}
		}
	}

	if last == "" {
		return "", nil
	}

	host := token.Host(last)
	if host == "" {
		return "", errForwarded
	}

	return host, nil
}

// listed returns the members of a list field (RFC 9110 section 5.6.1), which may
// have several lines, without empty ones.
func listed(h http.Header, name string) (out []string) {
	for _, line := range h.Values(name) {
		for member := range strings.SplitSeq(line, ",") {
			member = strings.Trim(member, " \t")
			if member != "" {
				out = append(out, member)
			}
		}
	}

	return out
}

// unquoted returns s without the quotes that some proxies write around addresses.
func unquoted(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return strings.Trim(s[1:len(s)-1], " \t")
	}

	return s
}

// readNode reads a node identifier (RFC 7239 section 6): an address, IPv6 with or
// without brackets, with or without a port. It returns the zero Addr for "unknown"
// and for obfuscated identifiers.
func readNode(s string) (netip.Addr, error) {
	s = unquoted(s)
	name := s
	switch i := strings.LastIndexByte(s, ':'); {
	case strings.HasPrefix(s, "["):
		literal, after, ok := strings.Cut(s[1:], "]")
		if !ok || after != "" && !(after[0] == ':' && isNodePort(after[1:])) {
			return netip.Addr{}, errForwarded
		}
		addr, err := netip.ParseAddr(literal)
		if err != nil || !addr.Is6() {
			return netip.Addr{}, errForwarded
		}

		return addr.Unmap().WithZone(""), nil
	case i >= 0 && strings.IndexByte(s, ':') == i: // with more than one it is an IPv6 address
		if !isNodePort(s[i+1:]) {
			return netip.Addr{}, errForwarded
		}
		name = s[:i]
	}

	if strings.EqualFold(name, "unknown") || isObfuscated(name) {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return netip.Addr{}, errForwarded
	}

	return addr.Unmap().WithZone(""), nil
}

// isNodePort reports whether s is a port or an obfuscated port.
func isNodePort(s string) bool {
	digits := strings.Trim(s, "0123456789") == "" && s != "" && len(s) <= 5
	return digits || isObfuscated(s)
}

// isObfuscated reports whether s is an obfuscated identifier: "_" and letters,
// digits, ".", "_" and "-" (RFC 7239 section 6.3).
func isObfuscated(s string) bool {
	if len(s) < 2 || s[0] != '_' {
		return false
	}

	for i := 1; i < len(s); i++ {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}

	return true
}

// readForwarded reads the elements of all lines of Forwarded. Lines are read
// separately, so that a client cannot begin a quoted string that continues in the
// line of a proxy.
func readForwarded(h http.Header) ([]forwarded, error) {
	var out []forwarded
	for _, line := range h.Values("Forwarded") {
		elements, err := parseForwarded(line)
		if err != nil {
			return nil, err
		}
		out = append(out, elements...)
	}

	return out, nil
}

// parseForwarded reads one line: elements separated by commas, of NAME=VALUE pairs
// separated by semicolons. Values that should be quoted need not be.
func parseForwarded(line string) ([]forwarded, error) {
	var out []forwarded
	var e forwarded
	seen := map[string]bool{}
	rest := line
	for {
		rest = strings.TrimLeft(rest, " \t")
		if rest != "" && rest[0] != ',' && rest[0] != ';' {
			name, value, after, err := cutPair(rest)
			if err != nil || seen[name] {
				return nil, errForwarded
			}
			seen[name] = true
			rest = strings.TrimLeft(after, " \t")
			switch name {
			case "for":
				e.node = value
			case "host":
				e.host = value
			}
		}

		if rest != "" && rest[0] == ';' {
			rest = rest[1:]
			continue
		}
		if len(seen) > 0 {
			out = append(out, e)
		}
		if rest == "" {
			return out, nil
		}
		if rest[0] != ',' {
			return nil, errForwarded
		}

		e = forwarded{}
		rest = rest[1:]
		clear(seen)
	}
}

// cutPair cuts NAME=VALUE off the start of s. The name is returned in lower case.
func cutPair(s string) (name, value, rest string, err error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok || name == "" || strings.ContainsAny(name, " \t,;\"") {
		return "", "", "", errForwarded
	}
	name = strings.ToLower(name)

	if !strings.HasPrefix(rest, `"`) {
		end := strings.IndexAny(rest, ",; \t")
		if end < 0 {
			end = len(rest)
		}
		if strings.Contains(rest[:end], `"`) {
			return "", "", "", errForwarded
		}

		return name, rest[:end], rest[end:], nil
	}

	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case '"':
			return name, b.String(), rest[i+1:], nil
		case '\\': // quoted-pair, RFC 9110 section 5.6.4
			i++
			if i == len(rest) {
				return "", "", "", errForwarded
			}
		}
		b.WriteByte(rest[i])
	}

	return "", "", "", errForwarded
}
