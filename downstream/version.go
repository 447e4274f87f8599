package downstream

import (
	"regexp"
	"strconv"
)

// versionPattern finds what reads like a version in vm_app_version, where it stands between other words.
var versionPattern = regexp.MustCompile(`v(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:-enterprise)?(?:-cluster)?`)

func versionOf(raw string) Version {
	v := Version{Raw: raw}
	found := versionPattern.FindStringSubmatch(raw)
	if found == nil {
		return v
	}
	v.Text = found[0]
	v.Major, _ = strconv.Atoi(found[1])
	v.Minor, _ = strconv.Atoi(found[2])
	v.Patch, _ = strconv.Atoi(found[3])
	return v
}

// Known is whether the numbers are.
func (v Version) Known() bool { return v.Text != "" }

// Before is whether the version is known and older than the first one of major.minor.
func (v Version) Before(major, minor int) bool {
	return v.Known() && (v.Major < major || v.Major == major && v.Minor < minor)
}
