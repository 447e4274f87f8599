package downstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ingestgw/ingestgw/internal/settings"
)

const (
	// srvPrefix begins the scheme of a URL whose host is the name of SRV records.
	srvPrefix = "dns+srv:"
	// lookupTimeout bounds one lookup: longer than a resolver's own retry of 5 s, short against FORWARD_LOST_AFTER.
	lookupTimeout = 8 * time.Second
	// lookupsAtOnce bounds the lookups of one Resolve that run at the same time.
	lookupsAtOnce = 16
	// forgetAfter is how long the answer for a name that nobody asks for is kept.
	forgetAfter = time.Hour
)

// A Lookup asks DNS. *net.Resolver is one.
type Lookup interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)
}

// A Resolver turns URLs into endpoints. A lookup that fails or finds nothing keeps the addresses that the name had before:
// a hiccup of DNS must not throw nodes away. It is safe for concurrent use.
type Resolver struct {
	lookup Lookup
	log    *slog.Logger
	failed prometheus.Counter

	mu      sync.Mutex
	answers map[string]*answer // by kind and name
}

type answer struct {
	addrs   []netip.Addr // of a host, sorted
	targets []hostPort   // of an SRV name, sorted
	name    string
	err     error // of the last lookup; said once
	used    time.Time
}

type hostPort struct {
	host string
	port string
}

// NewResolver returns a resolver that asks lookup, net.DefaultResolver when it is nil.
func NewResolver(lookup Lookup, log *slog.Logger, reg prometheus.Registerer) *Resolver {
	if lookup == nil {
		lookup = net.DefaultResolver
	}
	r := &Resolver{
		lookup:  lookup,
		log:     log,
		answers: map[string]*answer{},
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ingestgw_downstream_lookup_failures_total",
			Help: "DNS lookups of vminsert and vmstorage names that failed or found nothing. The addresses known before stay in use.",
		}),
	}
	reg.MustRegister(r.failed)
	return r
}

// Resolve returns the endpoints of all URLs: every A and AAAA address of each host, in a stable order and each once. The URLs
// are such as "http://vminsert-0:8480" or "https://user:password@vm.example/insert/0/prometheus/api/v1/write"; without a port
// it is 80 or 443. "dns+srv:http://_http._tcp.vminsert.default.svc.cluster.local/path" asks for the SRV records of that name
// and takes hosts and ports from them. IP literals and "localhost" are taken as they are.
//
// The error tells of URLs for which no address is known, neither now nor from before; the endpoints of the others are
// returned along with it.
func (r *Resolver) Resolve(ctx context.Context, urls []*url.URL) ([]Endpoint, error) {
	found := make([][]Endpoint, len(urls))
	errs := make([]error, len(urls))
	var lookups errgroup.Group
	lookups.SetLimit(lookupsAtOnce)
	for i, u := range urls {
		lookups.Go(func() error {
			found[i], errs[i] = r.resolve(ctx, u)
			return nil
		})
	}
	_ = lookups.Wait() // errs holds the errors
	r.forgetUnused()
	return unique(slices.Concat(found...)), errors.Join(errs...)
}

func unique(all []Endpoint) []Endpoint {
	seen := make(map[string]bool, len(all))
	return slices.DeleteFunc(all, func(e Endpoint) bool {
		name := e.String()
		again := seen[name]
		seen[name] = true
		return again
	})
}

func (r *Resolver) resolve(ctx context.Context, u *url.URL) ([]Endpoint, error) {
	if scheme, ok := strings.CutPrefix(u.Scheme, srvPrefix); ok {
		return r.resolveSRV(ctx, scheme, u)
	}
	return r.resolveHost(ctx, u)
}

func (r *Resolver) resolveHost(ctx context.Context, u *url.URL) ([]Endpoint, error) {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = defaultPort(u.Scheme)
	}
	if asItIs(host) {
		return []Endpoint{{Base: u, Addr: net.JoinHostPort(host, port)}}, nil
	}
	addrs, err := r.addrs(ctx, host)
	if err != nil {
		return nil, err
	}
	endpoints := make([]Endpoint, len(addrs))
	for i, a := range addrs {
		endpoints[i] = Endpoint{Base: u, Addr: net.JoinHostPort(a.String(), port)}
	}
	return endpoints, nil
}

func (r *Resolver) resolveSRV(ctx context.Context, scheme string, u *url.URL) ([]Endpoint, error) {
	targets, err := r.targets(ctx, u.Hostname())
	if err != nil {
		return nil, err
	}
	var endpoints []Endpoint
	var errs []error
	for _, t := range targets {
		base := *u
		base.Scheme, base.Host = scheme, net.JoinHostPort(t.host, t.port)
		found, err := r.resolveHost(ctx, &base)
		endpoints, errs = append(endpoints, found...), append(errs, err)
	}
	return endpoints, errors.Join(errs...)
}

func (r *Resolver) addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	known, err := r.ask(ctx, "addresses", host, func(ctx context.Context, a *answer) error {
		found, err := r.lookup.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return err
		}
		for i := range found {
			found[i] = found[i].Unmap()
		}
		slices.SortFunc(found, netip.Addr.Compare)
		a.addrs = slices.Compact(found)
		return nil
	})
	return known.addrs, err
}

func (r *Resolver) targets(ctx context.Context, name string) ([]hostPort, error) {
	known, err := r.ask(ctx, "SRV records", name, func(ctx context.Context, a *answer) error {
		_, records, err := r.lookup.LookupSRV(ctx, "", "", name)
		if err != nil {
			return err
		}
		for _, rec := range records {
			a.targets = append(a.targets, hostPort{strings.TrimSuffix(rec.Target, "."), strconv.Itoa(int(rec.Port))})
		}
		slices.SortFunc(a.targets, func(x, y hostPort) int {
			return strings.Compare(x.host+":"+x.port, y.host+":"+y.port)
		})
		a.targets = slices.Compact(a.targets)
		return nil
	})
	return known.targets, err
}

// ask does one lookup into a new answer and remembers it. When the lookup fails, or finds nothing, the answer from before
// is returned; there is an error only if there is none.
func (r *Resolver) ask(ctx context.Context, kind, name string, lookup func(context.Context, *answer) error) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	fresh := answer{}
	err := lookup(ctx, &fresh)
	if err == nil && len(fresh.addrs)+len(fresh.targets) == 0 {
		err = errors.New("nothing found")
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	key := kind + " " + name
	known := r.answers[key]
	if known == nil {
		known = &answer{}
		r.answers[key] = known
	}
	known.used = time.Now()
	if err == nil {
		if known.err != nil {
			r.log.Info("DNS lookup works again", "what", kind, "name", name)
		}
		fresh.used = known.used
		*known = fresh
		return fresh, nil
	}
	r.failed.Inc()
	none := len(known.addrs)+len(known.targets) == 0
	was := known.err
	known.err, known.name = err, name
	if was == nil {
		r.log.Warn("DNS lookup failed, going on with the addresses known before", "what", kind, "name", name, "none_known", none, "err", err)
	}
	if none {
		return answer{}, fmt.Errorf("look up %s of %s: %w", kind, name, err)
	}
	return *known, nil
}

// A FailedLookup is a name that cannot be looked up now.
type FailedLookup struct {
	Name  string
	Error string
	// Known says whether addresses from before stay in use. If not, nothing that has this name can be reached.
	Known bool
}

// Failing lists the names that could not be looked up the last time, sorted. It is safe for concurrent use.
func (r *Resolver) Failing() []FailedLookup {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []FailedLookup
	for _, a := range r.answers {
		if a.err != nil {
			all = append(all, FailedLookup{Name: a.name, Error: a.err.Error(), Known: len(a.addrs)+len(a.targets) > 0})
		}
	}
	slices.SortFunc(all, func(a, b FailedLookup) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (r *Resolver) forgetUnused() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, a := range r.answers {
		if time.Since(a.used) > forgetAfter {
			delete(r.answers, key)
		}
	}
}

// CheckURL says what keeps u from being one of the forms that Resolve knows. It shows no password.
func CheckURL(u *url.URL) error {
	scheme, isSRV := strings.CutPrefix(u.Scheme, srvPrefix)
	switch {
	case scheme != "http" && scheme != "https":
		return fmt.Errorf("%s: want http://host:port or https://host:port, or dns+srv:http://name for SRV records", settings.MaskURL(u))
	case u.Hostname() == "":
		return fmt.Errorf("%s names no host", settings.MaskURL(u))
	case isSRV && (u.Port() != "" || asItIs(u.Hostname())):
		return fmt.Errorf("%s: want a name without a port, as SRV records say host and port", settings.MaskURL(u))
	}
	return nil
}

func asItIs(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}
