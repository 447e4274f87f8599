package directory

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ingestgw/ingestgw/internal/clock"
)

const (
	// saveEvery is the time between two writes of the cache file, if something has changed. Writing never takes more than about a
	// hundredth of the time.
	saveEvery = time.Minute
	saveShare = 100
	// maxLine bounds a line of the cache file: an answer is little longer there than the directory may send it.
	maxLine = 4 * maxAnswer
	// fileHead is the first line.
	fileHead = `{"format":"ingestgw tenant directory answers","version":1}`
	// maxAside is how many damaged files are kept.
	maxAside = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A file keeps answers over a restart. PROTOCOL.md says what is in it.
type file struct {
	name    string
	log     *slog.Logger
	metrics *metrics
}

// CheckCacheFile says why there cannot be such a file, if so.
func (c Config) CheckCacheFile() error {
	if c.CacheFile == "" {
		return nil
	}
	folder := filepath.Dir(c.CacheFile)
	switch info, err := os.Stat(folder); {
	case err != nil:
		return fmt.Errorf("%s_CACHE_FILE=%s: the folder has to be there: %w", prefix, c.CacheFile, err)
	case !info.IsDir():
		return fmt.Errorf("%s_CACHE_FILE=%s: %s is no folder", prefix, c.CacheFile, folder)
	}
	switch info, err := os.Stat(c.CacheFile); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%s_CACHE_FILE: %w", prefix, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s_CACHE_FILE=%s: want a regular file", prefix, c.CacheFile)
	}
	return nil
}

// An answerLine is what a line of the file holds.
type answerLine struct {
	Kind   Kind            `json:"kind"`
	SHA256 string          `json:"sha256"`
	Heard  time.Time       `json:"heard"`
	Ask    bool            `json:"ask,omitempty"` // it has been invalidated
	Answer json.RawMessage `json:"answer"`
}

// read returns what the file holds and may still be used, the most recently used first. It never fails: what cannot be read is
// logged, counted and set aside, and nobody is kept waiting for a file.
func (f *file) read(cfg Config) []*entry {
	in, err := os.Open(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		f.damaged(err)
		return nil
	}
	defer in.Close()
	list, err := readAnswers(in, cfg, time.Now())
	if err != nil {
		f.damaged(err)
		f.setAside()
	}
	return list
}

func (f *file) damaged(err error) {
	f.metrics.setAside.Inc()
	f.log.Error("the file of remembered answers cannot be read in full, what can be is used", "setting", prefix+"_CACHE_FILE", "file", f.name, "err", err)
}

// setAside keeps the file for whoever wants to know what has happened, beside the few that were set aside last.
func (f *file) setAside() {
	const mark = ".damaged-"
	aside := f.name + mark + time.Now().UTC().Format("20060102T150405.000")
	if err := os.Rename(f.name, aside); err != nil {
		f.log.Error("cannot set a damaged file aside", "file", f.name, "err", err)
		return
	}
	f.log.Warn("a damaged file was set aside", "file", f.name, "as", aside)
	old, _ := filepath.Glob(f.name + mark + "*") // a name that is no pattern finds none
	slices.Sort(old)
	for len(old) > maxAside {
		if err := os.Remove(old[0]); err != nil {
			f.log.Error("cannot remove an old damaged file", "file", old[0], "err", err)
		}
		old = old[1:]
	}
}

// readAnswers reads as many answers as may be remembered. The error joins what is wrong with lines that were left out.
func readAnswers(from io.Reader, cfg Config, now time.Time) (list []*entry, err error) {
	in := bufio.NewReaderSize(from, maxLine)
	head, err := in.ReadSlice('\n')
	if err != nil || string(bytes.TrimSuffix(head, []byte("\n"))) != fileHead {
		return nil, errors.New("it does not begin as a file of this version does")
	}
	bad, room := 0, cfg.MaxEntries*bytesPerEntry
	var first error
	for number := 2; len(list) < cfg.MaxEntries && room > 0; number++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		e, lineErr := readLine(line, now)
		switch {
		case err != nil || lineErr != nil:
			bad++
			if first == nil {
				first = fmt.Errorf("line %d: %w", number, errors.Join(err, lineErr))
			}
		case now.Sub(e.heard) <= cfg.Stale:
			list = append(list, e)
			room -= e.cost
		}
		if err != nil {
			break // too long a line, a torn one, or a disk that cannot be read
		}
	}
	if bad > 0 {
		return list, fmt.Errorf("%d bad lines, the first is %w", bad, first)
	}
	return list, nil
}

func readLine(line []byte, now time.Time) (*entry, error) {
	check, text, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok || fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)) != string(check) {
		return nil, errors.New("wrong checksum")
	}
	var l answerLine
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, err
	}
	e := &entry{key: key{kind: l.Kind}, heard: l.Heard, asked: outdatedTurn + 1}
	if !l.Kind.known() {
		return nil, fmt.Errorf("unknown kind %q", l.Kind)
	}
	sum, err := hex.DecodeString(l.SHA256)
	if err != nil || copy(e.key.sum[:], sum) != len(sum) || len(sum) != len(e.key.sum) {
		return nil, fmt.Errorf("%q is no SHA-256", l.SHA256)
	}
	if l.Ask {
		e.asked = outdatedTurn
	}
	if e.heard.After(now) { // the clock has been put back; it is as old as can be told
		e.heard = now
	}
	v, err := decode(l.Answer, e.key)
	if err != nil {
		return nil, err
	}
	e.answer, e.cost = v.answer, v.cost
	return e, nil
}

// appendLine appends what readLine reads.
func appendLine(b []byte, e *entry, ask bool) []byte {
	text, err := json.Marshal(answerLine{
		Kind:   e.key.kind,
		SHA256: hex.EncodeToString(e.key.sum[:]),
		Heard:  e.heard.UTC(),
		Ask:    ask,
		Answer: encode(e.answer),
	})
	if err != nil {
		panic(err) // texts and a time of ours
	}
	b = fmt.Appendf(b, "%08x ", crc32.Checksum(text, castagnoli))
	return append(append(b, text...), '\n')
}

// A saved is an entry as it is written.
type saved struct {
	*entry
	ask bool
}

// write replaces the file. Whenever the machine stops, the file is the old one or the new one.
func (f *file) write(list []saved) (err error) {
	next := f.name + ".new"
	out, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err = errors.Join(writeAnswers(out, list), out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := os.Rename(next, f.name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func writeAnswers(out io.Writer, list []saved) error {
	w := bufio.NewWriterSize(out, 1<<20)
	_, _ = w.WriteString(fileHead + "\n") // Flush returns the first error
	var line []byte
	for _, s := range list {
		line = appendLine(line[:0], s.entry, s.ask)
		_, _ = w.Write(line)
	}
	return w.Flush()
}

// keep saves what has been heard and forgets what is too old, until ctx ends, and then saves once more.
func (d *Directory) keep(ctx context.Context) {
	pause := saveEvery
	for clock.Sleep(ctx, pause) {
		d.sweep()
		began := time.Now()
		d.save()
		pause = max(saveEvery, saveShare*time.Since(began))
	}
	d.save()
}

func (d *Directory) sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.memory.sweep(d.cfg.Stale) > 0 {
		d.dirty = true
	}
}

// save writes the file if something has changed since.
func (d *Directory) save() {
	if d.file == nil {
		return
	}
	list := d.unsaved()
	if list == nil {
		return
	}
	if err := d.file.write(list); err != nil {
		d.metrics.unsaved.Inc()
		d.log.Error("cannot save the answers of the directory of tenants", "setting", prefix+"_CACHE_FILE", "file", d.file.name, "err", err)
		d.mu.Lock()
		d.dirty = true
		d.mu.Unlock()
	}
}

// unsaved returns all answers, the most recently used first, if one has changed since it was called last; nil otherwise.
func (d *Directory) unsaved() []saved {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirty {
		return nil
	}
	d.dirty = false
	list := make([]saved, 0, d.memory.hits.Len())
	for _, e := range slices.Backward(d.memory.hits.Values()) {
		list = append(list, saved{e, d.memory.outdated(e)})
	}
	return list
}

// restore remembers answers from a file. They are used at once and brought up to date in the background, as all that are past
// their time; not all of them at the same moment.
func (d *Directory) restore(list []*entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirty = len(list) > 0 // the file may have been set aside
	for _, e := range slices.Backward(list) {
		e.retry = time.Now().Add(rand.N(retryAfter))
		d.share(e.answer)
		d.memory.put(e)
	}
	if len(list) > 0 {
		d.log.Info("remembers answers of the directory of tenants from before", "answers", len(list))
	}
}
