package ingest

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
)

// route says whose samples a request brings, from its method and path alone.
//
// The paths are vminsert's (https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#url-format) and the
// usual ones without a tenant, which belong to the default tenant.
func route(r *http.Request, byDefault tenant.ID) (tenant.ID, error) {
	path := r.URL.Path
	for strings.Contains(path, "//") { // a base URL that ends in a slash; vminsert is as lenient
		path = strings.ReplaceAll(path, "//", "/")
	}
	id, err := tenantOf(path, byDefault)
	if err != nil {
		return tenant.ID{}, err
	}
	if r.Method != http.MethodPost {
		return tenant.ID{}, fmt.Errorf("%w: %s; remote-write is sent with POST", errMethod, r.Method)
	}
	return id, nil
}

func tenantOf(path string, byDefault tenant.ID) (tenant.ID, error) {
	switch path {
	case "/api/v1/write", "/api/v1/push":
		return byDefault, nil
	}
	rest, ok := strings.CutPrefix(path, "/insert/")
	name, suffix, _ := strings.Cut(rest, "/")
	if !ok || !isWritePath(suffix) {
		return tenant.ID{}, fmt.Errorf("%w %q; remote-write is taken at /api/v1/write and "+
			"/insert/<account>:<project>/prometheus/api/v1/write", errUnknownPath, path)
	}
	id, err := tenant.Parse(name)
	if err != nil {
		return tenant.ID{}, fmt.Errorf("%w in path %q: %w", errTenant, path, err)
	}
	return id, nil
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
