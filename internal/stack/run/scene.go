package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// stopWithin is how long one process may take to stop.
const stopWithin = 30 * time.Second

// A scene is everything that runs.
//
//	vmagent ──▶ ingestgw ──▶ vminsert ──▶ vmstorage-0, vmstorage-1 ◀── vmselect
//	   │           └─▶ kafka, unless the backlog is on disk
//	   └─ scrapes all of them but kafka
type scene struct {
	options
	out io.Writer

	storages                             []*stack.Process
	vminsert, vmselect, gateway, vmagent *stack.Process
	broker                               *stack.Process   // nil without kafka
	started                              []*stack.Process // in this order
}

// say tells of an installation, which the next run need not wait for.
func (s *scene) say(what string) { fmt.Fprintf(s.out, "  %s (once)\n", what) }

// launch starts one server with wished ports ("name": port) and says so.
func (s *scene) launch(ctx context.Context, spec stack.Spec, ports map[string]int) (*stack.Process, error) {
	for name, port := range ports {
		spec.Listen[name] = fmt.Sprintf("%s:%d", s.host, port)
	}
	spec.Dir = filepath.Join(s.dir, spec.Name)
	spec.Say = s.say
	began := time.Now()
	p, err := stack.Launch(ctx, spec)
	if err != nil {
		return nil, err
	}
	s.ready(p, p.URL(), ports, began)
	return p, nil
}

// ready notes and says that a process has become ready, and which of its wished ports it did not get.
func (s *scene) ready(p *stack.Process, at string, ports map[string]int, began time.Time) {
	s.started = append(s.started, p)
	fmt.Fprintf(s.out, "  %-12s %-24s ready after %s\n", p.Name(), at, time.Since(began).Round(10*time.Millisecond))
	for _, name := range slices.Sorted(maps.Keys(ports)) {
		if wished := ports[name]; !strings.HasSuffix(p.AddrOf(name), fmt.Sprintf(":%d", wished)) {
			fmt.Fprintf(s.out, "  %-12s (port %d for %s is taken, so that is at %s)\n", "", wished, name, p.AddrOf(name))
		}
	}
}

// launchKafka starts one broker and returns the settings that let ingestgw buffer there.
func (s *scene) launchKafka(ctx context.Context) (settings []string, err error) {
	const port = 9092
	began := time.Now()
	k, err := stack.LaunchKafka(ctx, stack.KafkaSpec{
		Listen: []string{fmt.Sprintf("%s:%d", s.host, port)},
		Dir:    s.dir,
		Say:    s.say,
	})
	if err != nil {
		return nil, err
	}
	s.broker = k.Brokers[0]
	s.ready(s.broker, k.Bootstrap(), map[string]int{"kafka": port}, began)
	return []string{
		"INGESTGW_BUFFER=kafka",
		"INGESTGW_KAFKA_BROKERS=" + k.Bootstrap(),
		"INGESTGW_KAFKA_CREATE_TOPICS=true",
	}, nil
}

// start starts everything against the direction in which samples flow, so that nobody waits for the next one. The ports are the usual
// ones where ingestgw, which takes vminsert's place, leaves them.
func (s *scene) start(ctx context.Context) error {
	ingestgw, err := build(ctx, s.options, s.out)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "Starting; data and logs are in %s\n", s.dir)
	// What a cluster behind ingestgw has to have: see "What the cluster needs" in README.md.
	const dedup = "-dedup.minScrapeInterval=1ms"
	for i := range 2 {
		spec := stack.VmstorageSpec(fmt.Sprintf("vmstorage-%d", i))
		spec.Args = append(spec.Args, dedup)
		p, err := s.launch(ctx, spec, map[string]int{"http": 8492 + i, "vminsert": 8400 + 10*i, "vmselect": 8401 + 10*i})
		if err != nil {
			return err
		}
		s.storages = append(s.storages, p)
	}
	if s.vminsert, err = s.launch(ctx, stack.VminsertSpec("vminsert", s.storages...), map[string]int{"http": 8490}); err != nil {
		return err
	}
	vmselect := stack.VmselectSpec("vmselect", s.storages...)
	vmselect.Args = append(vmselect.Args, dedup)
	if s.vmselect, err = s.launch(ctx, vmselect, map[string]int{"http": 8481}); err != nil {
		return err
	}
	settings := []string{
		"INGESTGW_FORWARD_URLS=" + s.vminsert.URL(),
		"INGESTGW_FORWARD_STORAGE_URLS=" + s.storages[0].URL() + "," + s.storages[1].URL(),
	}
	token, err := s.writeToken()
	if err != nil {
		return err
	}
	settings = append(settings, "INGESTGW_VMSELECT_URLS="+s.vmselect.URL(), "INGESTGW_ADMIN_TOKEN_FILE="+token)
	if s.kafka {
		buffer, err := s.launchKafka(ctx)
		if err != nil {
			return err
		}
		settings = append(settings, buffer...)
	}
	gateway := stack.IngestgwSpec("ingestgw", ingestgw, settings...)
	if s.gateway, err = s.launch(ctx, gateway, map[string]int{"http": 8480, "admin": 8482}); err != nil {
		return err
	}
	vmagent := stack.VmagentSpec("vmagent", s.scrapeConfig(), s.gateway.URL()+"/api/v1/write")
	vmagent.Args = append(vmagent.Args, "-remoteWrite.forcePromProto")
	s.vmagent, err = s.launch(ctx, vmagent, map[string]int{"http": 8429})
	return err
}

// token is the file with the token of operators.
func (s *scene) token() string { return filepath.Join(s.dir, "token") }

// writeToken makes a token of operators unless there is one from before, and returns the file's absolute path.
func (s *scene) writeToken() (path string, err error) {
	if path, err = filepath.Abs(s.token()); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return path, nil
	} else if err != nil {
		return "", fmt.Errorf("write a token of operators: %w", err)
	}
	_, err = fmt.Fprintln(f, rand.Text())
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("write a token of operators: %w", err)
	}
	return path, nil
}

// jobs says whom vmagent scrapes, itself included: the addresses by the name of the job.
func (s *scene) jobs() map[string][]string {
	return map[string][]string{
		"ingestgw":  {s.gateway.AddrOf("admin")},
		"vminsert":  {s.vminsert.Addr()},
		"vmselect":  {s.vmselect.Addr()},
		"vmstorage": {s.storages[0].Addr(), s.storages[1].Addr()},
		"vmagent":   {"{http}"},
	}
}

func (s *scene) scrapeConfig() string {
	var b strings.Builder
	b.WriteString("global:\n  scrape_interval: 5s\nscrape_configs:\n")
	jobs := s.jobs()
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		fmt.Fprintf(&b, "  - job_name: %s\n    static_configs:\n      - targets: [%s]\n", name, strings.Join(jobs[name], ", "))
	}
	return b.String()
}

// show waits for the first samples, says what there is to see, and returns when ctx has ended or a process has: the error then
// names it.
func (s *scene) show(ctx context.Context) error {
	watch, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for _, p := range s.started {
		go func() { // ends with the process, at the latest when s.close kills it
			<-p.Ended()
			stop(s.died(p))
		}()
	}
	if err := s.showSamples(watch); err != nil && watch.Err() == nil {
		return err
	}
	if watch.Err() == nil {
		s.showLinks()
	}
	<-watch.Done()
	return context.Cause(watch)
}

// died says how a process ended, and what it wrote last.
func (s *scene) died(p *stack.Process) error {
	how := "exit status 0"
	if err := p.Wait(context.Background()); err != nil { // it has ended, so this does not wait
		how = err.Error()
	}
	return fmt.Errorf("%s has ended by itself: %s%s", p.Name(), how, lastWords(p))
}

// lastWords is where the log of a process is and its last lines, to be appended to an error.
func lastWords(p *stack.Process) string {
	lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
	lines = lines[max(0, len(lines)-6):]
	return fmt.Sprintf("\n%s ends with\n  %s", p.LogPath(), strings.Join(lines, "\n  "))
}

// stop stops everything that runs in the direction in which samples flow: the last ones still get as far as they can.
func (s *scene) stop() error {
	if len(s.started) == 0 {
		return nil
	}
	fmt.Fprintln(s.out, "\nStopping, senders first")
	var errs []error
	order := append([]*stack.Process{s.vmagent, s.gateway, s.broker, s.vmselect, s.vminsert}, s.storages...)
	for _, p := range slices.DeleteFunc(order, func(p *stack.Process) bool { return p == nil }) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		err := p.Stop(ctx)
		cancel()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(s.out, "  %-12s stopped after %s\n", p.Name(), time.Since(began).Round(10*time.Millisecond))
	}
	if len(errs) == 0 {
		fmt.Fprintf(s.out, "All stopped; the next run goes on with the data in %s\n", s.dir)
	}
	return errors.Join(errs...)
}

// close kills what still runs.
func (s *scene) close() {
	for _, p := range slices.Backward(s.started) {
		p.Close()
	}
}
