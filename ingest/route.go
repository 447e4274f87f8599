package ingest

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/access"
)

// route says which tenant the path of a request names, if it names one.
//
// The paths are vminsert's (https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#url-format): with a tenant, with
// the word multitenant where the data name the tenants, or without either, for tenants in headers; and the usual ones of Prometheus.
func route(r *http.Request) (access.Name, error) {
	path := r.URL.Path
	for strings.Contains(path, "//") { // a base URL that ends in a slash; vminsert is as lenient
		path = strings.ReplaceAll(path, "//", "/")
	}
	name, err := nameIn(path)
	if err != nil {
		return access.Name{}, err
	}
	if r.Method != http.MethodPost {
		return access.Name{}, fmt.Errorf("%w: %s; remote-write is sent with POST", errMethod, r.Method)
	}
	return name, nil
}

func nameIn(path string) (access.Name, error) {
	switch path {
	case "/api/v1/write", "/api/v1/push":
		return access.Name{}, nil
	}
	rest, ok := strings.CutPrefix(path, "/insert/")
	if ok && isWritePath(rest) { // without a tenant
		return access.Name{}, nil
	}
	text, suffix, _ := strings.Cut(rest, "/")
	if !ok || !isWritePath(suffix) {
		return access.Name{}, fmt.Errorf("%w %q; remote-write is taken at /api/v1/write and "+
			"/insert/<account>:<project>/prometheus/api/v1/write", errUnknownPath, path)
	}
	name, err := access.ParseName(text)
	if err != nil {
		return access.Name{}, fmt.Errorf("%w in path %q: %w", tenant.ErrUnnamed, path, err)
	}
	return name, nil
}

func isWritePath(suffix string) bool {
	switch suffix {
	case "prometheus", "prometheus/", "prometheus/api/v1/write", "prometheus/api/v1/push":
		return true
	}
	return false
}

// checkEncoding refuses what is not remote-write 1.0 in snappy, before the body is read: the fields of a 2.0 message are
// unknown ones to a 1.0 parser, which would find nothing in it and call that a success.
func checkEncoding(h http.Header) error {
	if t := h.Get("Content-Type"); t != "" {
		media, params, err := mime.ParseMediaType(t)
		if err != nil || media != "application/x-protobuf" {
			return fmt.Errorf("%w %q; want application/x-protobuf", errType, t)
		}
		if p, given := params["proto"]; given && p != "prometheus.WriteRequest" {
			return fmt.Errorf("%w %q; only remote-write 1.0 (proto=prometheus.WriteRequest) is taken", errType, t)
		}
	}
	if e := strings.Join(h.Values("Content-Encoding"), ","); e != "" && !strings.EqualFold(strings.TrimSpace(e), "snappy") {
		return fmt.Errorf("%w %q; want snappy in block format", errEncoding, e)
	}
	return nil
}
