package remotewrite

// A sifting is what Sift has done so far.
type sifting struct {
	invalid func(View, func() *Error) // nil while a message is to have no invalid series
	kept    []byte
	copied  int // of msg[:copied] is in kept what stays
	taken   int // series
}

// Sift is Scan for a message in which some series may be invalid and the others are to stay. It takes the invalid ones out of msg, in
// its place, and returns what is left, which has passed Scan, and what that holds. Without any, kept is msg, and Sift does no more than
// Scan.
//
// invalid is called for each series that is taken out, in their order. Of what it is given the View is as well-formed as those of valid
// series, so that all its methods can be used; its labels may lack a name, stand twice, or be no UTF-8. why says what is wrong, and
// with which series of the message as it was sent. Both are valid until it returns. The error is an *Error about the message as a whole, in
// which case msg is spoilt, and what invalid was told is of no account.
func (s *Scanner) Sift(msg []byte, lim Limits, invalid func(v View, why func() *Error)) (kept []byte, counts Counts, err error) {
	s.sift = sifting{invalid: invalid, kept: msg[:0]}
	counts, err = s.Scan(msg, lim)
	done := s.sift
	s.sift = sifting{}
	if err != nil || done.taken == 0 {
		return msg, counts, err
	}
	kept = done.kept
	kept = append(kept, msg[done.copied:]...)
	if counts.Series == done.taken && counts.Metadata == 0 {
		return kept[:0], Counts{}, nil
	}
	counts, err = s.Scan(kept, lim)
	return kept, counts, err
}

// takeOut is for the series in f, which has been walked and is flawed.
func (s *Scanner) takeOut(f field) error {
	t := &s.sift
	if t.invalid == nil {
		return s.flawError()
	}
	t.invalid(s.msg[f.from:f.to:f.to], s.flawError)
	t.kept = append(t.kept, s.msg[t.copied:f.at]...)
	t.copied = f.to
	t.taken++
	s.inSeries = false
	return nil
}
