// Package forge makes requests of very many tenants, honest ones and forgeries, and knows what each tenant has to have afterwards.
//
// A World has tenants with credentials and tags, and senders who are trusted to name tenants in their data. Its Next makes one request
// after the other. Each sample has a value of its own, so that it is recognised under whatever name and tenant it turns up. A Book
// keeps what was answered, and is then a verify.Expectation: what was acknowledged has to be there, with the labels that it should
// have, and nothing may be anywhere else.
package forge

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/ingestgw/ingestgw/loadtest/roster"
)

// Config says how large a World is.
type Config struct {
	// Seed makes Worlds that differ. The same one makes the same World, times apart.
	Seed uint64
	// Tenants is how many there are, at least 8.
	Tenants int
	// Start is the time of the first sample; each further one is a millisecond later, and some are half an hour earlier. A request for
	// which there is no more time before the present must not be made: 100,000 samples take 100 s.
	Start time.Time
	// MaxLabels is how many labels a series may have, its tags included. Some series have as many, and some have more, which are
	// refused while the others of their request are taken.
	MaxLabels int
	// Sign, when not nil, makes the JSON Web Token by which some tenants are known that have no other credential.
	Sign func(account, project uint32) string
	// Certificates is how many tenants have a client certificate and no other credential.
	Certificates int
	// Huge is how many bytes a request has at least that is meant to be too large for one block. 0: there is none.
	Huge int
}

// A Tenant is one that sends, and is sent for.
type Tenant struct {
	Account, Project uint32
	// Credentials may each write for it.
	Credentials []Credential
	// Tags win over labels of the same name.
	Tags map[string]string
	// Drops says that series with the label DropLabel are dropped.
	Drops bool
	// Org is how the table of trusted senders calls it.
	Org string
}

// DropLabel is on series that tenants who drop anything drop, by DropRule.
const (
	DropLabel = "forge_drop"
	DropRule  = `{forge_drop!=""}`
)

// ID is "<account>:<project>".
func (t Tenant) ID() string { return fmt.Sprintf("%d:%d", t.Account, t.Project) }

// A Trusted sender has bodies with series of many tenants, and labels that say whose each series is: OrgLabel, with the tenants' Org or
// their ID; or vm_account_id and vm_project_id.
type Trusted struct {
	Token  string
	Labels []string
	// ByOrg: values are the tenants' Org, not numbers.
	ByOrg bool
	// Default is the tenant of series without these labels, by its place in World.Tenants; -1: such series are refused.
	Default int
}

// OrgLabel names tenants in the bodies of some trusted senders. It stays on the series.
const OrgLabel = "org"

// Reserved are the labels by which vminsert takes series for a tenant's. They never reach it from anybody's data.
var Reserved = [...]string{"vm_account_id", "vm_project_id", "VictoriaMetrics_AccountID", "VictoriaMetrics_ProjectID"}

// A World is who there is. It is not safe for concurrent use.
type World struct {
	Tenants []Tenant
	Trusted []Trusted

	cfg     Config
	random  *rand.Rand
	book    *Book
	next    []*Request // made and not yet taken
	samples int
	shared  []roster.Trusted
}

// New makes a World. It panics when cfg leaves no room for one.
func New(cfg Config) *World {
	if cfg.Tenants < 8 || cfg.MaxLabels < 20 {
		panic("forge: a world has at least 8 tenants, and series at least 20 labels")
	}
	w := &World{cfg: cfg, random: rand.New(rand.NewPCG(cfg.Seed, 5)), book: newBook()}
	w.addTenants()
	w.addCredentials()
	numbers := Reserved[:2]
	w.Trusted = []Trusted{
		{Token: w.token("trusted"), Labels: []string{OrgLabel}, ByOrg: true, Default: -1},
		{Token: w.token("trusted"), Labels: []string{OrgLabel}, ByOrg: true, Default: 3},
		{Token: w.token("trusted"), Labels: []string{OrgLabel}, Default: 4},
		{Token: w.token("trusted"), Labels: numbers, Default: -1},
		{Token: w.token("trusted"), Labels: numbers, Default: 5},
	}
	w.book.world = w
	return w
}

// WriteRoster writes the tenants and the trusted senders as the file that INGESTGW_TENANT_FILE names.
func (w *World) WriteRoster(to io.Writer) error {
	orgs := map[string]string{}
	for _, t := range w.Tenants {
		orgs[t.Org] = t.ID()
	}
	trusted := slices.Clone(w.shared)
	for i, t := range w.Trusted {
		r := roster.Trusted{Name: fmt.Sprintf("trusted-%d", i), Token: t.Token, Labels: t.Labels}
		if t.ByOrg {
			r.Table = orgs
		}
		if t.Default >= 0 {
			r.Missing = w.Tenants[t.Default].ID()
		}
		trusted = append(trusted, r)
	}
	return roster.Write(to, nil, func(yield func(roster.Tenant) bool) {
		for _, t := range w.Tenants {
			line := roster.Tenant{ID: t.ID(), Tags: t.Tags}
			for _, c := range t.Credentials {
				if c.listed != (roster.Credential{}) {
					line.Credentials = append(line.Credentials, c.listed)
				}
			}
			if t.Drops {
				line.Drop = []string{DropRule}
			}
			if !yield(line) {
				return
			}
		}
	}, trusted...)
}

// Book is where answers are written down.
func (w *World) Book() *Book { return w.book }

func (w *World) addTenants() {
	// Neighbours that a mistake of one digit, of a sign or of a field would mix up.
	ids := [][2]uint32{{1, 0}, {0, 1}, {1, 1}, {11, 1}, {1, 11}, {math.MaxUint32, 0}, {math.MaxUint32, math.MaxUint32}, {math.MaxInt32, 1}}
	taken := map[[2]uint32]bool{{0, 0}: true} // where everything ends up that has no tenant; nobody sends for it
	for _, id := range ids {
		taken[id] = true
	}
	for len(ids) < w.cfg.Tenants {
		id := [2]uint32{w.random.Uint32N(uint32(w.cfg.Tenants)), w.random.Uint32N(4)}
		if !taken[id] {
			taken[id] = true
			ids = append(ids, id)
		}
	}
	for i, id := range ids {
		w.Tenants = append(w.Tenants, Tenant{
			Account: id[0], Project: id[1], Org: "org-" + strconv.Itoa(i), Tags: w.tags(i), Drops: i%3 == 2,
		})
	}
}

// tags are none for some, one or many for others.
func (w *World) tags(i int) map[string]string {
	switch i % 4 {
	case 0:
		return nil
	case 1:
		return map[string]string{"region": fmt.Sprintf("region-%d", i)}
	case 2:
		return map[string]string{"region": "eu & us", "team": fmt.Sprintf("größe=%d", i), "zone": "a,b"}
	}
	tags := map[string]string{}
	for n := range 8 {
		tags[fmt.Sprintf("tag_%d", n)] = fmt.Sprintf("%d of %d", n, i)
	}
	return tags
}

func (w *World) token(kind string) string {
	return fmt.Sprintf("%s-%016x%016x", kind, w.random.Uint64(), w.random.Uint64())
}

// anybody is a tenant's place.
func (w *World) anybody() int { return w.random.IntN(len(w.Tenants)) }

// other is another tenant than i.
func (w *World) other(i int) Tenant {
	return w.Tenants[(i+1+w.random.IntN(len(w.Tenants)-1))%len(w.Tenants)]
}
