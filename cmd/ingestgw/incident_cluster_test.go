//go:build linux

package main

import (
	"sync"
	"testing"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/offer"
)

// TestIncidentsOfTheCluster lets vminserts and vmstorages die and freeze.
func TestIncidentsOfTheCluster(t *testing.T) {
	whole(t)
	cluster := stack.StartCluster(t, stack.ClusterSpec{Storages: 2, Inserts: 2, StorageArgs: []string{"-inmemoryDataFlushInterval=1s"}})
	s := startSite(t, cluster)
	arrives := s.offers(offer.Config{Metric: "incident", Tenants: 50, FirstAccount: 100, Series: 20, PerRequest: 20, Rate: 2000, Senders: 8})
	scene := func(name string, play func(s *site)) {
		t.Run(name, func(t *testing.T) { play(s.of(t)) })
	}
	scene("a vminsert of two is frozen", func(s *site) {
		one := cluster.Inserts[1]
		s.suffers(culprit{name: "vminsert_frozen", node: one.Addr()}, s.freeze(one), s.thaw(one))
	})
	scene("a vmstorage of two is frozen", func(s *site) {
		one := cluster.Storages[1]
		s.suffers(culprit{name: "vmstorage_frozen", node: one.AddrOf("vminsert")}, s.freeze(one), s.thaw(one))
	})
	scene("all vmstorages are dead", func(s *site) {
		s.suffers(culprit{name: "vmstorage_unreachable", severity: alarm.Page}, s.kill(cluster.Storages...), s.restart(cluster.Storages...))
	})
	arrives()
}

// of is the site for a test that is part of the one that has started it.
func (s *site) of(t *testing.T) *site {
	part := *s
	part.t = t
	return &part
}

func (s *site) freeze(p *stack.Process) func() {
	return func() {
		s.t.Helper()
		if err := p.Freeze(); err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = p.Thaw() }) // for those that follow
	}
}

func (s *site) thaw(p *stack.Process) func() {
	return func() {
		s.t.Helper()
		if err := p.Thaw(); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) kill(all ...*stack.Process) func() {
	return func() {
		for _, p := range all {
			p.Kill()
		}
	}
}

// restart starts them, all at once.
func (s *site) restart(all ...*stack.Process) func() {
	return func() {
		s.t.Helper()
		var starting sync.WaitGroup
		for _, p := range all {
			starting.Go(func() {
				if err := p.Restart(s.t.Context(), nil); err != nil {
					s.t.Error(err)
				}
			})
		}
		starting.Wait()
	}
}
