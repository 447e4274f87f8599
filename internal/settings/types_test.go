package settings_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/internal/settings"
)

func TestBytesAreReadAndPrinted(t *testing.T) {
	for text, want := range map[string]struct {
		n     settings.Bytes
		print string
	}{
		"0":                   {0, "0"},
		"1048576":             {1 << 20, "1MiB"},
		"1000":                {1000, "1000"},
		"1500KiB":             {1500 << 10, "1500KiB"},
		"64 mib":              {64 << 20, "64MiB"},
		"5Gi":                 {5 << 30, "5GiB"},
		"2TB":                 {2e12, "1953125000KiB"},
		"100B":                {100, "100"},
		"9223372036854775807": {math.MaxInt64, "9223372036854775807"},
	} {
		n, err := settings.ParseBytes(text)
		if err != nil || n != want.n || n.String() != want.print {
			t.Errorf("ParseBytes(%q) = %d, printed %s, %v; want %d, %s", text, int64(n), n, err, int64(want.n), want.print)
		}
		if again, err := settings.ParseBytes(n.String()); err != nil || again != n {
			t.Errorf("%s is read again as %d, %v", n, again, err)
		}
	}
	for _, text := range []string{"", "B", "-1", "+1", "1.5GiB", "1 GiB 2", "1PiB", "9223372036854775808", "8388608TiB", "0x10", "1_000"} {
		if n, err := settings.ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", text, n)
		}
	}
}

func TestSizeIsBytesOrPercent(t *testing.T) {
	for text, want := range map[string]settings.Size{
		"90%": {Percent: 90}, "1 %": {Percent: 1}, "100%": {Percent: 100}, "0": {}, "2GiB": {Bytes: 2 << 30},
	} {
		var s settings.Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q is read as %+v, %v", text, s, err)
		}
	}
	for _, text := range []string{"0%", "101%", "%", "-5%", "9.5%", "half"} {
		var s settings.Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v, want an error", text, s)
		}
	}
}

func TestAddressNeedsAPort(t *testing.T) {
	for _, text := range []string{":8480", ":0", "127.0.0.1:1", "[::1]:8480", "host.example:65535"} {
		var a settings.Address
		if err := a.UnmarshalText([]byte(text)); err != nil || string(a) != text {
			t.Errorf("%q is read as %q, %v", text, a, err)
		}
	}
	for text, want := range map[string]string{
		"localhost":   `such as "localhost:8480"`,
		"[::1]":       `such as "[::1]:8480"`,
		"::1":         "host:port",
		"8480":        `such as ":8480"`,
		"":            "has no port",
		":http":       "number from 0 to 65535",
		":65536":      "number from 0 to 65535",
		"http://a:80": "host:port",
	} {
		var a settings.Address
		if err := a.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one that says %q", text, err, want)
		}
	}
}

type config struct {
	Token settings.Secret
	Many  []settings.Secret
	Ptr   *settings.Secret
	URL   settings.URL
	URLs  settings.URLs
}

const secret = "hunter2-secret"

// everyWay prints v in every way that a program prints values.
func everyWay(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T%v", "% x", "%U"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	fmt.Fprintln(&b, v, fmt.Errorf("wrapped: %v", v))
	slog.New(slog.NewTextHandler(&b, nil)).Info("text", "v", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("json", "v", v)
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		t.Error(err)
	}
	if err := xml.NewEncoder(&b).Encode(v); err != nil {
		t.Error(err)
	}
	return b.String()
}

func TestSecretsPrintAsStars(t *testing.T) {
	var u settings.URL
	var us settings.URLs
	raw := "https://user:" + secret + "@host:1/path?a=b&authKey=" + secret
	for _, err := range []error{u.UnmarshalText([]byte(raw)), us.UnmarshalText([]byte(raw + ",http://" + secret + "@host2"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	token := settings.Secret(secret)
	inside := config{token, []settings.Secret{token}, &token, u, us}
	for _, v := range []any{token, &token, []settings.Secret{token}, u, &u, us, inside, &inside} {
		out := everyWay(t, v)
		hex := fmt.Sprintf("%x", secret)
		if strings.Contains(out, secret) || strings.Contains(strings.ToLower(out), hex) {
			t.Errorf("%T shows the secret:\n%s", v, out)
		}
		if !strings.Contains(out, "***") {
			t.Errorf("%T prints no stars:\n%s", v, out)
		}
	}
	if got, want := us.String(), "https://user:***@host:1/path?a=b&authKey=***,http://***@host2"; got != want {
		t.Errorf("URLs print as %q, want %q", got, want)
	}
}

func TestSRVBelongsToTheScheme(t *testing.T) {
	var u settings.URL
	if err := u.UnmarshalText([]byte("dns+srv:http://u:" + secret + "@_http._tcp.vminsert/x")); err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "dns+srv:http" || u.Host != "_http._tcp.vminsert" || u.String() != "dns+srv:http://u:***@_http._tcp.vminsert/x" {
		t.Errorf("read as %s, scheme %q, host %q", u, u.Scheme, u.Host)
	}
}

func TestNothingIsPrintedForASecretThatIsNotSet(t *testing.T) {
	if got := fmt.Sprint(settings.Secret(""), settings.URL{}, settings.URLs(nil)); strings.TrimSpace(got) != "" {
		t.Errorf("printed %q", got)
	}
}

func TestURLErrorsShowNoSecret(t *testing.T) {
	for raw, shown := range map[string]string{
		"http://user:" + secret + "@host:port":       `"http://***@host:***"`,
		"http://user:" + secret + "%zz@host":         `"http://***@host"`,
		"http://user:" + secret:                      `"http://user:***"`,
		"http://user:" + secret + "/":                `"http://user:***"`,
		"http://user:" + secret + "?x@host:p":        `"http://***"`,
		"http://host:x?authKey=" + secret:            `"http://host:***"`,
		"http://host:x?authKey=a@" + secret:          `"http://***"`,
		"user:" + secret + "@host:8480":              `"***@host:8480"`,
		"vminsert-0:8480":                            `"vminsert-0:8480" has no scheme`,
		"10.0.0.7:8480":                              `"10.0.0.7:8480" has no scheme`,
		"http://":                                    "names no host",
		"http://user:" + secret + "@":                `"http://***@"`,
		"http://user:" + secret + "@ho st/\x00":      "is no URL",
		"://user:" + secret + "@host":                "is no URL",
		"http://user:" + secret + "@[fe80::1%en0]:1": "",
	} {
		var us settings.URLs
		err := us.UnmarshalText([]byte("http://fine:1," + raw))
		if shown != "" && (err == nil || !strings.Contains(err.Error(), shown) || !strings.Contains(err.Error(), "URL 2")) {
			t.Errorf("%q: error %v, want one that shows %s", raw, err, shown)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the error shows the secret: %v", raw, err)
		}
	}
}

func TestMarshalledTextIsReadAgain(t *testing.T) {
	for _, v := range []interface {
		MarshalText() ([]byte, error)
	}{settings.Bytes(16 << 20), settings.Size{Percent: 9}, settings.Size{Bytes: 5}} {
		text, err := v.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		again := reflect.New(reflect.TypeOf(v))
		if err := again.Interface().(interface{ UnmarshalText([]byte) error }).UnmarshalText(text); err != nil {
			t.Fatal(err)
		}
		if got := again.Elem().Interface(); got != v {
			t.Errorf("%v is read again as %v", v, got)
		}
	}
}

func FuzzURLsNeverShowAPassword(f *testing.F) {
	for _, seed := range []string{"", "@host", "@host:port", "/", "?x@y", "#@h", "%zz@h", "@[::1", "\x00", "://x@y", "/@/:a", ",http://b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		for _, raw := range []string{"http://user:" + secret + rest, "user:" + secret + "@host" + rest, "http://host/?authKey=" + secret + rest,
			"dns+srv:http://user:" + secret + rest} {
			var u settings.URLs
			err := u.UnmarshalText([]byte(raw))
			if shown := fmt.Sprint(u, err); strings.Contains(shown, secret) {
				t.Errorf("%q is shown as %s", raw, shown)
			}
		}
	})
}
