package settings

import (
	"net/url"
	"strings"
)

// MaskURL is u's text with *** in place of a password, of a user name without password (it may be a token), and of query
// parameters whose name says that they are secret, such as authKey.
func MaskURL(u *url.URL) string {
	shown := *u
	shown.User = nil
	shown.RawQuery = maskQuery(u.RawQuery)
	text := shown.String()
	if u.User == nil {
		return text
	}
	user := masked
	if _, both := u.User.Password(); both {
		user = url.User(u.User.Username()).String() + ":" + masked
	}
	scheme, rest, _ := strings.Cut(text, "//")
	return scheme + "//" + user + "@" + rest
}

func maskQuery(raw string) string {
	pairs := strings.Split(raw, "&")
	for i, pair := range pairs {
		if name, _, ok := strings.Cut(pair, "="); ok && isSecretName(name) {
			pairs[i] = name + "=" + masked
		}
	}
	return strings.Join(pairs, "&")
}

func isSecretName(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"auth", "key", "token", "pass", "secret", "credential"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// maskRaw shows what can be shown of a text that did not parse as a URL: of everything that might be a password, nothing.
func maskRaw(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	switch {
	case !ok:
		scheme, rest = "", raw
	case isScheme(strings.TrimPrefix(scheme, srvPrefix)):
		scheme += "://"
	default: // user:password, say
		scheme = masked + "://"
	}
	hasQuery, hasUser := strings.ContainsAny(rest, "?#"), strings.Contains(rest, "@")
	if hasUser && hasQuery {
		return scheme + masked
	}
	if hasUser {
		_, host, _ := cutLast(rest, "@")
		return scheme + masked + "@" + maskPort(host)
	}
	if hasQuery {
		rest = rest[:strings.IndexAny(rest, "?#")]
	}
	return scheme + maskPort(rest)
}

// isScheme says whether s can be nothing but a scheme, or a slip of one.
func isScheme(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == "" }

// maskPort hides what stands where a port should and is none: of user:password without a host, that is the password.
func maskPort(s string) string {
	host, path, hasPath := strings.Cut(s, "/")
	name, port, hasPort := strings.Cut(host, ":")
	if hasPort && strings.Trim(port, "0123456789") != "" {
		return name + ":" + masked
	}
	if hasPath {
		return host + "/" + path
	}
	return host
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
