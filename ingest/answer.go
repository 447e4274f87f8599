package ingest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/access"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

// What can be wrong with a request before its bytes are looked at, or with ourselves.
var (
	errUnknownPath = errors.New("unknown path")
	errMethod      = errors.New("method not allowed")
	errType        = errors.New("unsupported content type")
	errEncoding    = errors.New("unsupported content encoding")
	errTooLarge    = errors.New("request too large")
	errSnappy      = errors.New("malformed snappy block")
	errChunks      = errors.New("malformed HTTP body")
	errSlow        = errors.New("request came too slowly")
	errAborted     = errors.New("request ended early")
	errBudget      = errors.New("memory for requests in flight is spent")
)

// An answer is what a sender is told about one kind of error.
type answer struct {
	is     error  // the kind, found with errors.Is
	label  string // value of the label "answer" in metrics
	status int
	// retry is the longest Retry-After, for what may succeed later; 0 sends none. Senders sleep what they are told, without a
	// limit of their own, so it stays at 30 s or below.
	retry time.Duration
}

// answers is the one place that says what a sender hears. The first row whose kind fits counts.
//
// Senders tell three classes apart. 400: can never succeed; both Prometheus and vmagent drop the request. 503 with
// Retry-After: both come again. Everything else is a trap: vmagent retries 404, 413 and 422 for ever, Prometheus drops on 408
// and 429. So whatever might be well the next time is 503, and what never can be is 400, also where HTTP has a finer word.
// 429 is for fresh samples above a tenant's hard limit alone: a sender that drops them then does what the limit is for.
var answers = []answer{
	{is: errUnknownPath, label: "unknown_path", status: http.StatusNotFound},
	{is: errMethod, label: "method", status: http.StatusMethodNotAllowed},
	{is: tenant.ErrUnnamed, label: "bad_tenant", status: http.StatusBadRequest},
	{is: tenant.ErrUnauthorized, label: "unauthorized", status: http.StatusUnauthorized},
	{is: tenant.ErrForbidden, label: "forbidden", status: http.StatusForbidden},
	// Neither says anything of the credential: the sender may well be one whose samples would be lost with 401.
	{is: tenant.ErrTooManyFailures, label: "too_many_failures", status: http.StatusServiceUnavailable, retry: 30 * time.Second},
	{is: tenant.ErrUnavailable, label: "tenant_unknown", status: http.StatusServiceUnavailable, retry: 10 * time.Second},
	{is: limit.ErrLimit, label: "over_limit", status: http.StatusTooManyRequests, retry: 30 * time.Second},
	{is: limit.ErrLimitOld, label: "over_limit_old", status: http.StatusServiceUnavailable, retry: 30 * time.Second},
	{is: limit.ErrConcurrent, label: "too_many_at_once", status: http.StatusServiceUnavailable, retry: 3 * time.Second},
	{is: errRefusedSeries, label: "series_refused", status: http.StatusBadRequest},
	{is: errType, label: "unsupported_type", status: http.StatusUnsupportedMediaType},
	{is: errEncoding, label: "unsupported_encoding", status: http.StatusUnsupportedMediaType},
	{is: errTooLarge, label: "too_large", status: http.StatusBadRequest},
	{is: errSnappy, label: "malformed", status: http.StatusBadRequest},
	{is: errChunks, label: "malformed", status: http.StatusBadRequest},
	{is: remotewrite.ErrMalformed, label: "malformed", status: http.StatusBadRequest},
	{is: remotewrite.ErrTooManySeries, label: "too_large", status: http.StatusBadRequest},
	{is: remotewrite.ErrTooLarge, label: "too_large", status: http.StatusBadRequest},
	{is: errBudget, label: "memory_spent", status: http.StatusServiceUnavailable, retry: 5 * time.Second},
	{is: buffer.ErrFull, label: "buffer_full", status: http.StatusServiceUnavailable, retry: 30 * time.Second},
	{is: buffer.ErrClosed, label: "stopping", status: http.StatusServiceUnavailable, retry: 5 * time.Second},
	// What does not fit was split or refused before; the limit has changed since, and next time the request is split to fit.
	{is: buffer.ErrTooLarge, label: "buffer_unavailable", status: http.StatusServiceUnavailable, retry: 5 * time.Second},
	{is: buffer.ErrUnavailable, label: "buffer_unavailable", status: http.StatusServiceUnavailable, retry: 10 * time.Second},
	{is: errSlow, label: "too_slow", status: http.StatusServiceUnavailable, retry: 5 * time.Second},
	{is: errAborted, label: "aborted", status: http.StatusServiceUnavailable, retry: 5 * time.Second},
	{is: context.Canceled, label: "aborted", status: http.StatusServiceUnavailable, retry: 5 * time.Second},
	{is: context.DeadlineExceeded, label: "too_slow", status: http.StatusServiceUnavailable, retry: 5 * time.Second},
	{is: nil, label: "internal", status: http.StatusServiceUnavailable, retry: 10 * time.Second}, // no row fits: a bug, and no reason to lose data
}

// accepted labels the requests that were answered with 204.
const accepted = "accepted"

func answerFor(err error) answer {
	for _, a := range answers {
		if a.is == nil || errors.Is(err, a.is) {
			return a
		}
	}
	panic("ingest: the last answer fits everything")
}

// worst is the error of a request whose parts met errs, nil when they all are: one that tells the sender to come again before one that
// makes some senders drop the samples, as other parts may be well the next time; and the one with the longest wait.
func worst(errs []error) (err error) {
	for _, e := range errs {
		if e != nil && (err == nil || answerFor(e).outranks(answerFor(err))) {
			err = e
		}
	}
	return err
}

func (a answer) outranks(b answer) bool {
	if again := a.status == http.StatusServiceUnavailable; again != (b.status == http.StatusServiceUnavailable) {
		return again
	}
	return a.retry > b.retry
}

// refuse writes the answer to err.
func refuse(w http.ResponseWriter, a answer, err error) {
	h := w.Header()
	if a.status == http.StatusMethodNotAllowed {
		h.Set("Allow", http.MethodPost)
	}
	if a.status == http.StatusUnauthorized {
		access.Challenge(h)
	}
	var known *delayed
	switch {
	case errors.As(err, &known):
		h.Set("Retry-After", strconv.Itoa(int(known.wait/time.Second)))
	case a.retry > 0:
		h.Set("Retry-After", strconv.Itoa(retryAfter(a.retry)))
	}
	http.Error(w, err.Error(), a.status)
}

// retryAfter is a random number of seconds from 1 to limit, so that senders that were refused together do not return together.
func retryAfter(limit time.Duration) int {
	return 1 + rand.IntN(int(limit/time.Second))
}
