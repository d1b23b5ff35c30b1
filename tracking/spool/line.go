package spool

import (
	"hash/crc32"
	"strconv"
)

func appendLine(dst, record []byte) []byte {
	const hex = "0123456789abcdef"
	sum := crc32.Checksum(record, table)
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, hex[sum>>shift&15])
	}
	dst = append(dst, ' ')

	return append(append(dst, record...), '\n')
}

// parseLine undoes appendLine; line is without its newline.
func parseLine(line []byte) ([]byte, bool) {
	if len(line) < lineExtra-1 || line[8] != ' ' {
		return nil, false
	}

	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[9:], table) {
		return nil, false
	}

	return line[9:], true
}

// takeLine returns the record of a line, which is given without its end, and
// the bytes of the line with its end. Where the end of a whole record is damaged
// and the next line seems to belong to this one, it is that record.
func takeLine(line []byte) (record []byte, n int, ok bool) {
	if record, ok = parseLine(line); ok {
		return record, len(line) + 1, true
	}

	if end := recordEnd(line); end > 0 && end < len(line)-1 {
		record, ok = parseLine(line[:end])
		return record, end + 1, ok
	}

	return nil, len(line) + 1, false
}

// takeTail is takeLine for what is at the end of a segment without a line end.
func takeTail(text []byte) (record []byte, n int, ok bool) {
	if end := recordEnd(text); end > 0 {
		return text[lineExtra-1 : end], min(end+1, len(text)), true
	}

	return nil, len(text), false
}

// recordEnd finds where a record ends that text begins with and whose line end
// is missing or another byte; 0: nowhere. Only the record's own checksum tells:
// a record may hold a stranger's text, which may look like a line. What follows
// has to be the beginning of a line, or nothing.
func recordEnd(text []byte) int {
	const prefix = lineExtra - 1
	if len(text) < prefix || text[prefix-1] != ' ' {
		return 0
	}

	stated, err := strconv.ParseUint(string(text[:prefix-1]), 16, 32)
	if err != nil {
		return 0
	}

	sum := ^uint32(0) // as crc32.Update counts, a byte at a time
	for end := prefix; ; end++ {
		if ^sum == uint32(stated) && beginsLine(text[min(end+1, len(text)):]) {
			return end
		}
		if end == len(text) {
			return 0
		}
		sum = table[byte(sum)^text[end]] ^ sum>>8
	}
}

// beginsLine reports whether text may be the beginning of a line, which may be
// torn.
func beginsLine(text []byte) bool {
	for i, b := range text[:min(len(text), lineExtra-1)] {
		if i == lineExtra-2 {
			return b == ' '
		}
		if (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return false
		}
	}

	return true
}
