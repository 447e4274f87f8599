package remotewrite

import "fmt"

// checkLegacy holds a label to Limits.LegacyNames.
func (s *Scanner) checkLegacy(name, value span) {
	if !s.lim.LegacyNames || s.flawed {
		return
	}
	if !legacyName(name.of(s.msg), false) {
		s.invalid(name, name.from(), "the name must match [a-zA-Z_][a-zA-Z0-9_]*")
	}
	if string(name.of(s.msg)) == "__name__" && value.len() > 0 && !legacyName(value.of(s.msg), true) {
		s.invalid(name, name.from(), fmt.Sprintf("the metric name %q must match [a-zA-Z_:][a-zA-Z0-9_:]*", cut(value.of(s.msg))))
	}
}

// legacyName says whether name is what Prometheus allowed before version 3. Metric names may hold colons.
func legacyName(name []byte, metric bool) bool {
	const (
		digits  = 0x3ff << '0'
		colon   = 1 << ':'
		letters = (1<<26-1)<<('A'-64) | (1<<26-1)<<('a'-64) | 1<<('_'-64)
	)
	if len(name) == 0 || '0' <= name[0] && name[0] <= '9' {
		return false
	}
	low := uint64(digits) // one bit for each byte below 64
	if metric {
		low |= colon
	}
	allowed := uint64(1)
	for _, c := range name {
		set := low
		if c >= 64 {
			set = letters
		}
		allowed &= set >> (c & 63)
		allowed &= uint64(^c) >> 7 // below 128
	}
	return allowed == 1
}
