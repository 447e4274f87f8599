package settings

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// unknownVariables says which variables of env begin with prefix and are neither known nor made by Kubernetes. Their values
// are not shown.
func unknownVariables(prefix string, known map[string]bool, env []string) error {
	var errs []error
	names := slices.Sorted(maps.Keys(known))
	for _, variable := range slices.Sorted(slices.Values(env)) {
		name, value, _ := strings.Cut(variable, "=")
		suffix, ours := strings.CutPrefix(name, prefix+"_")
		if !ours || known[name] || fromKubernetes(suffix, value) {
			continue
		}
		errs = append(errs, fmt.Errorf("unknown setting %s: did you mean %s?", name, nearest(name, names)))
	}
	return errors.Join(errs...)
}

// What Kubernetes sets in every container for a Service NAME
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables). A Service ingestgw gives
// INGESTGW_SERVICE_HOST, a Service ingestgw-admin INGESTGW_ADMIN_SERVICE_HOST.
var (
	serviceVariable = regexp.MustCompile(`^([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)$`)
	servicePort     = regexp.MustCompile(`^[A-Z0-9_]+_PORT$`)
	portURL         = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// fromKubernetes says whether a variable, given without the program's prefix, is one of those. NAME_PORT could also be a
// misspelt setting: Kubernetes sets it to a URL.
func fromKubernetes(suffix, value string) bool {
	return suffix == "PORT" || serviceVariable.MatchString(suffix) ||
		servicePort.MatchString(suffix) && portURL.MatchString(value)
}

// nearest is the name that takes the fewest edits to reach. A word that was left out, or is too much before the last one,
// counts one edit and a half, however long it is: INGESTGW_BROKERS means INGESTGW_KAFKA_BROKERS.
func nearest(name string, names []string) string {
	best, fewest := "", -1
	for _, candidate := range names {
		n := 2 * edits(name, candidate)
		if missing, ok := missingWords(name, candidate); ok {
			n = min(n, 3*missing)
		}
		if surplus, ok := missingWords(candidate, name); ok && lastWord(candidate) == lastWord(name) {
			n = min(n, 3*surplus)
		}
		if fewest < 0 || n < fewest {
			best, fewest = candidate, n
		}
	}
	return best
}

// missingWords says how many words b has more than a, when a is b without them.
func missingWords(a, b string) (n int, ok bool) {
	rest := strings.Split(b, "_")
	for word := range strings.SplitSeq(a, "_") {
		i := slices.Index(rest, word)
		if i < 0 {
			return 0, false
		}
		n += i
		rest = rest[i+1:]
	}
	return n + len(rest), true
}

func lastWord(name string) string { return name[strings.LastIndex(name, "_")+1:] }

// edits counts the characters to insert, delete, replace, or swap with their neighbour to make b of a.
func edits(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := above[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, above[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
