package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Bytes is a number of bytes. Written "1048576", "1MiB" or "5GiB"; the units are B, KiB, MiB, GiB and TiB (powers of 1024;
// Ki, Mi, Gi and Ti as Kubernetes writes them mean the same) and kB, MB, GB and TB (powers of 1000).
type Bytes int64

var byteUnits = map[string]int64{
	"": 1, "b": 1,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}

// ParseBytes reads a number of bytes, with or without unit. It is never negative.
func ParseBytes(s string) (Bytes, error) {
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit, ok := byteUnits[strings.ToLower(strings.TrimSpace(s[len(number):]))]
	n, err := strconv.ParseUint(number, 10, 63)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is no number of bytes: want a whole number with or without a unit, such as 1048576, 64MiB or 5GiB", s)
	}
	if int64(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is more bytes than can be counted", s)
	}
	return Bytes(int64(n) * unit), nil
}

// UnmarshalText is ParseBytes.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = n
	return nil
}

// MarshalText is String, for JSON and logs.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String uses the largest power of 1024 that divides b, so that ParseBytes reads the same number again: "16MiB", "1000".
func (b Bytes) String() string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		size := Bytes(1) << (40 - 10*i)
		if b != 0 && b%size == 0 {
			return strconv.FormatInt(int64(b/size), 10) + unit
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Size is a number of bytes, either outright ("2GiB") or as a share of something that only the reader of the setting knows
// ("90%"). At most one of the two is not 0.
type Size struct {
	Bytes   Bytes
	Percent int // 1 to 100
}

// UnmarshalText reads "90%" or what ParseBytes reads.
func (s *Size) UnmarshalText(text []byte) error {
	number, isPercent := strings.CutSuffix(string(text), "%")
	if !isPercent {
		n, err := ParseBytes(number)
		*s = Size{Bytes: n}
		return err
	}
	p, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || p < 1 || p > 100 {
		return fmt.Errorf("%q: want 1%% to 100%%, or bytes such as 2GiB", text)
	}
	*s = Size{Percent: p}
	return nil
}

// MarshalText is String, for JSON and logs.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String is "90%", or the bytes as Bytes prints them.
func (s Size) String() string {
	if s.Percent > 0 {
		return strconv.Itoa(s.Percent) + "%"
	}
	return s.Bytes.String()
}

const masked = "***"

// Secret is a text that must not be seen. It prints as *** by every verb of fmt, in slog, JSON and XML; string(s) is the
// secret itself. Empty, it prints as nothing, which tells that it is not set. fmt cannot call methods on unexported struct
// fields: keep Secrets in exported ones, or do not print the struct.
type Secret string

// Format writes *** whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// String is ***.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// MarshalText is String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Address is where a listener listens, "host:port". The host may be empty (all interfaces), the port may be 0 (the kernel
// chooses), but a port there must be.
type Address string

// UnmarshalText checks the form and keeps the text as it is.
func (a *Address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	if err != nil {
		return addressError(string(text), err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: the port has to be a number from 0 to 65535, not %q", text, port)
	}
	*a = Address(net.JoinHostPort(host, port))
	return nil
}

func addressError(text string, err error) error {
	var addr *net.AddrError
	if errors.As(err, &addr) && addr.Err == "missing port in address" {
		suggestion := net.JoinHostPort(strings.Trim(text, "[]"), "8480")
		if _, err := strconv.ParseUint(text, 10, 16); err == nil {
			suggestion = ":" + text
		}
		return fmt.Errorf("%q has no port: want host:port, such as %q", text, suggestion)
	}
	return fmt.Errorf("%q is no listen address: want host:port, such as :8480 or 127.0.0.1:8480", text)
}

// URL is an absolute URL with scheme and host. It prints with *** in place of a password, of a user name without password
// (it may be a token), and of query parameters whose name says that they are secret, such as authKey. The embedded *url.URL is
// nil when the URL is not set; its own methods show everything.
//
// "dns+srv:http://name" is a URL too: its Scheme is "dns+srv:http" and its Host is name.
type URL struct{ *url.URL }

// UnmarshalText parses a URL. An error shows no part of the text that may be a password.
func (u *URL) UnmarshalText(text []byte) error {
	raw := strings.TrimSpace(string(text))
	if raw == "" {
		u.URL = nil
		return nil
	}
	parsed, err := parse(raw)
	// The errors of net/url quote the URL, or the part of it that it stumbled over.
	switch {
	case !strings.Contains(raw, "://"):
		return fmt.Errorf("%q has no scheme: want scheme://host:port, such as http://vminsert-0:8480", maskRaw(raw))
	case err != nil:
		return fmt.Errorf("%q is no URL: want scheme://host:port, such as http://vminsert-0:8480", maskRaw(raw))
	case parsed.Host == "":
		return fmt.Errorf("%q names no host: want scheme://host:port, such as http://vminsert-0:8480", maskRaw(raw))
	}
	u.URL = parsed
	return nil
}

// srvPrefix before a URL says that its host is the name of SRV records.
const srvPrefix = "dns+srv:"

// parse takes srvPrefix for a part of the scheme. To net/url all that follows it would be opaque: no host, no path, and a
// password in plain sight.
func parse(raw string) (*url.URL, error) {
	plain, isSRV := strings.CutPrefix(raw, srvPrefix)
	u, err := url.Parse(plain)
	if err == nil && isSRV {
		u.Scheme = srvPrefix + u.Scheme
	}
	return u, err
}

// MarshalText is String, for JSON and logs.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Format writes String whatever the verb.
func (u URL) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(u.String())) }

// LogValue is String.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// String is the URL with *** in place of its secrets.
func (u URL) String() string {
	if u.URL == nil {
		return ""
	}
	return MaskURL(u.URL)
}

// URLs is a list of URLs, written with commas between them. It prints as it is written, without the secrets.
type URLs []URL

// UnmarshalText reads URLs separated by commas. An empty text is an empty list.
func (u *URLs) UnmarshalText(text []byte) error {
	list := URLs{}
	var errs []error
	for i, raw := range strings.Split(string(text), ",") {
		if raw = strings.TrimSpace(raw); raw == "" {
			continue
		}
		var one URL
		if err := one.UnmarshalText([]byte(raw)); err != nil {
			errs = append(errs, fmt.Errorf("URL %d: %w", i+1, err))
			continue
		}
		list = append(list, one)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	*u = list
	return nil
}

// MarshalText is String, for JSON and logs.
func (u URLs) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// LogValue is String.
func (u URLs) LogValue() slog.Value { return slog.StringValue(u.String()) }

// String is the URLs with commas between them and *** in place of their secrets.
func (u URLs) String() string {
	list := make([]string, len(u))
	for i, one := range u {
		list[i] = one.String()
	}
	return strings.Join(list, ",")
}
