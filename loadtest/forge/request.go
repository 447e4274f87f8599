package forge

import (
	gobytes "bytes"
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/golang/snappy"
)

// Kind is what a request is made to try.
type Kind string

// Kinds.
const (
	Small        Kind = "small"          // a few series of one tenant
	Large        Kind = "large"          // many samples of one tenant, which leave as they came
	Huge         Kind = "huge"           // more than one block takes
	Twice        Kind = "twice"          // series of which others go in another size
	Old          Kind = "old"            // samples of half an hour ago
	Full         Kind = "full"           // series with as many labels as there may be
	Overfull     Kind = "overfull"       // series with more, among others
	Forged       Kind = "forged"         // names another tenant in the data, small
	ForgedLarge  Kind = "forged large"   // the same, large
	ForgedURL    Kind = "forged URL"     // names another tenant in the URL's query, or in headers
	Repeated     Kind = "repeated"       // names other tenants twice
	WrongTenant  Kind = "wrong tenant"   // names another tenant in the path
	WrongToken   Kind = "wrong token"    // has no credential that anybody knows
	ManyTenants  Kind = "many tenants"   // of a trusted sender
	WithoutNames Kind = "without tenant" // of a trusted sender, with series that name nobody and have no default
)

// Kinds are all there are.
var Kinds = []Kind{
	Small, Large, Huge, Twice, Old, Full, Overfull, Forged, ForgedLarge, ForgedURL, Repeated, WrongTenant, WrongToken, ManyTenants, WithoutNames,
}

// Want is how a request may be answered. Any request may be told to come again (429, 5xx).
type Want int

// Wants.
const (
	Taken   Want = iota // 2xx
	Refused             // 4xx
	Either              // 2xx or 4xx
	Partly              // 400 for some series, and the others are stored
)

// A Request is ready to be sent, as often as one likes.
type Request struct {
	Kind Kind
	Want Want
	// Path is below the receiver's base URL, with its query.
	Path   string
	Header http.Header
	Body   []byte
	// Certificate is the name in the client's certificate; empty: it has none.
	Certificate string

	samples []int // their numbers
}

// HTTP is the request to the receiver with that base URL.
func (r *Request) HTTP(ctx context.Context, base string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+r.Path, gobytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	req.Header = r.Header.Clone()
	return req, nil
}

// Next makes a request. What it means for tenants is in the Book from now on.
func (w *World) Next() *Request {
	if len(w.next) == 0 {
		w.next = w.make()
	}
	r := w.next[0]
	w.next = w.next[1:]
	return r
}

func (w *World) make() []*Request {
	owner := w.anybody()
	switch n := w.random.IntN(100); {
	case n < 30:
		return w.one(Small, Taken, owner, w.several(owner, w.honest, 1+w.random.IntN(20)), 1)
	case n < 35:
		return w.one(Large, Taken, owner, w.several(owner, w.honest, 50), 12)
	case n < 36 && w.cfg.Huge > 0:
		return []*Request{w.huge(owner)}
	case n < 45:
		return w.twice(owner)
	case n < 50:
		return w.one(Old, Taken, owner, w.several(owner, w.honest, 5), 1)
	case n < 55:
		return w.one(Full, Taken, owner, w.several(owner, w.full, 1+w.random.IntN(5)), 1)
	case n < 57:
		all := append(w.several(owner, w.overfull, 1+w.random.IntN(3)), w.several(owner, w.full, 3)...)
		return w.one(Overfull, Partly, owner, all, 1)
	case n < 70:
		return w.one(Forged, Taken, owner, w.several(owner, w.forged, 1+w.random.IntN(10)), 1)
	case n < 74:
		return w.one(ForgedLarge, Taken, owner, w.several(owner, w.forged, 60), 10)
	case n < 78:
		return []*Request{w.forgedURL(owner)}
	case n < 80:
		return w.one(Repeated, Either, owner, w.several(owner, w.repeated, 2), 1)
	case n < 84:
		return []*Request{w.wrongTenant(owner)}
	case n < 87:
		return []*Request{w.wrongToken(owner)}
	}
	return []*Request{w.entrust()}
}

// several makes n series of the owner. Some are the same by chance, with samples of their own.
func (w *World) several(owner int, kind func(owner int) *series, n int) []*series {
	all := make([]*series, n)
	for i := range all {
		all[i] = kind(owner)
	}
	return all
}

// repeated has the labels that name tenants twice, which no series may have.
func (w *World) repeated(owner int) *series {
	s := w.forged(owner)
	for _, l := range s.labels {
		if slices.Contains(Reserved[:], l.name) {
			s.labels = append(s.labels, label{l.name, w.claim(w.other(owner), true)})
		}
	}
	return s // in this order: the last counts
}

func (w *World) one(kind Kind, want Want, owner int, all []*series, samples int) []*Request {
	return []*Request{w.request(kind, want, owner, all, samples)}
}

// request is the owner's request with so many samples of each of the series.
func (w *World) request(kind Kind, want Want, owner int, all []*series, samples int) *Request {
	t := w.Tenants[owner]
	r := &Request{Kind: kind, Want: want, Header: header(), Path: "/api/v1/write"}
	c := t.Credentials[w.random.IntN(len(t.Credentials))]
	w.show(c, r)
	if c.shared || w.random.IntN(2) == 0 {
		r.Path = path(t)
	}
	w.fill(r, all, samples)
	return r
}

// path names the tenant.
func path(t Tenant) string { return "/insert/" + t.ID() + "/prometheus/api/v1/write" }

// twice sends the same series in small requests, which are packed with others, and in a large one, which is not.
func (w *World) twice(owner int) []*Request {
	kind := w.honest
	if w.random.IntN(2) == 0 {
		kind = w.forged
	}
	all := w.several(owner, kind, 40)
	made := w.one(Twice, Taken, owner, all, 15)
	for len(all) > 0 {
		n := min(len(all), 1+w.random.IntN(20))
		made = append(made, w.request(Twice, Taken, owner, all[:n], 1))
		all = all[n:]
	}
	w.random.Shuffle(len(made), func(i, j int) { made[i], made[j] = made[j], made[i] })
	return made
}

// huge has series that cannot be compressed, until there are enough bytes.
func (w *World) huge(owner int) *Request {
	var all []*series
	for size := 0; size < w.cfg.Huge; {
		s := w.forged(owner)
		noise := make([]byte, 1000)
		for i := range noise {
			noise[i] = byte('!' + w.random.IntN(90))
		}
		s.labels = append(s.labels, label{"noise", string(noise)})
		all = append(all, w.finish(s))
		size += len(noise)
	}
	return w.request(Huge, Taken, owner, all, 1)
}

// forgedURL names another tenant where nobody should look for it.
func (w *World) forgedURL(owner int) *Request {
	r := w.request(ForgedURL, Either, owner, w.several(owner, w.honest, 3), 1)
	other := w.other(owner)
	account, project := strconv.FormatUint(uint64(other.Account), 10), strconv.FormatUint(uint64(other.Project), 10)
	switch w.random.IntN(4) {
	case 0:
		r.Path += "?extra_label=vm_account_id=" + account + "&extra_label=vm_project_id=" + project
	case 1:
		r.Header.Set("AccountID", account)
		r.Header.Set("ProjectID", project)
	case 2:
		r.Header.Set("X-Scope-OrgID", account)
	case 3:
		r.Path = "/insert/multitenant/prometheus/api/v1/write"
	}
	return r
}

// wrongTenant is sent with a credential that is not the tenant's in the path.
func (w *World) wrongTenant(owner int) *Request {
	r := &Request{Kind: WrongTenant, Want: Refused, Header: header(), Path: path(w.other(owner))}
	w.show(w.Tenants[owner].Credentials[0], r) // which it shares with nobody
	w.fill(r, w.several(nobody, w.honest, 2), 1)
	return r
}

func (w *World) wrongToken(owner int) *Request {
	r := w.request(WrongToken, Refused, owner, w.several(nobody, w.honest, 2), 1)
	r.Header, r.Certificate = header(), ""
	w.show(w.wrong(w.Tenants[owner]), r)
	return r
}

// entrust makes a trusted sender's request: many tenants in no order, or all series of one together.
func (w *World) entrust() *Request {
	by := w.Trusted[w.random.IntN(len(w.Trusted))]
	r := &Request{Kind: ManyTenants, Path: "/api/v1/write", Header: header()}
	w.show(Credential{Authorization: "Bearer " + by.Token}, r)
	all := make([]*series, 1+w.random.IntN(100))
	for i := range all {
		all[i] = w.entrusted(by)
		if all[i].owner == nobody {
			r.Kind, r.Want = WithoutNames, Partly
		}
	}
	w.fill(r, all, 1+w.random.IntN(3))
	return r
}

// fill encodes the series with so many new samples of each, and writes them into the book.
func (w *World) fill(r *Request, all []*series, samples int) {
	var message []byte
	for _, s := range all {
		var b []byte
		for _, l := range s.labels {
			if s.odd && w.random.IntN(2) == 0 {
				b = appendMessage(b, seriesLabel, l.encodeOddly(w.random))
				continue
			}
			b = appendMessage(b, seriesLabel, l.encode())
		}
		for range samples {
			number := w.samples
			w.samples++
			at := w.cfg.Start.UnixMilli() + int64(number)
			if r.Kind == Old {
				at -= 30 * 60 * 1000
			}
			b = appendMessage(b, seriesSample, encodeSample(value(number), at))
			r.samples = append(r.samples, number)
			w.book.expect(number, r, s, at)
		}
		message = appendMessage(message, requestSeries, b)
	}
	if w.random.IntN(4) == 0 {
		message = appendMessage(message, requestMetadata, encodeMetadata("forge_up", w.Tenants[w.anybody()]))
	}
	r.Body = snappy.Encode(nil, message)
}

// value is a sample's, by which it is known again. 0 is no value of any.
func value(number int) float64 { return float64(number + 1) }
