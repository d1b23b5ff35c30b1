package spool

import (
	"hash/crc32"
	"strconv"
)

// lineExtra is how many bytes a line has besides its record: checksum, space and
// line end.
const lineExtra = 8 + 1 + 1

var table = crc32.MakeTable(crc32.Castagnoli)

// appendLine appends the line of a record to dst.
func appendLine(dst, record []byte) []byte {
	const hex = "0123456789abcdef"
	sum := crc32.Checksum(record, table)
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, hex[sum>>shift&15])
	}
	dst = append(dst, ' ')

	return append(append(dst, record...), '\n')
}

// parseLine returns the record of a line without its line end, and whether its
// checksum is right.
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

// takeLine returns the record of a line without its line end, and the length of
// the line including it. If a line end within line is damaged, so that the next
// record seems to be part of it, takeLine returns the first record alone.
func takeLine(line []byte) (record []byte, n int, ok bool) {
	record, ok = parseLine(line)
	if ok {
		return record, len(line) + 1, true
	}

	if end := recordEnd(line); end > 0 && end < len(line)-1 {
		record, ok = parseLine(line[:end])
		return record, end + 1, ok
	}

	return nil, len(line) + 1, false
}

// takeTail is takeLine for text at the end of a segment that has no line end.
func takeTail(text []byte) (record []byte, n int, ok bool) {
	if end := recordEnd(text); end > 0 {
		return text[lineExtra-1 : end], min(end+1, len(text)), true
	}

	return nil, len(text), false
}

// recordEnd returns where the record at the beginning of text ends if its line
// end is missing or damaged, or 0 if there is no whole record. Only the checksum
// decides, because a record may contain the text of a stranger that looks like a
// line. The record must be followed by the beginning of a line, or by nothing.
func recordEnd(text []byte) int {
	const prefix = lineExtra - 1
	if len(text) < prefix || text[prefix-1] != ' ' {
		return 0
	}

	stated, err := strconv.ParseUint(string(text[:prefix-1]), 16, 32)
	if err != nil {
		return 0
	}

	sum := ^uint32(0) // the CRC-32C of the bytes so far, inverted
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

// beginsLine reports whether text may begin with a line, or is the beginning of
// one.
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
