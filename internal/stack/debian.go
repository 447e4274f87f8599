package stack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// debianPackages installs packages of Debian's, which have what is named. Whoever may not do that, or has no Debian, is told what to
// install.
func debianPackages(ctx context.Context, what string, names []string, say func(string)) error {
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("install %s, or run this as root on Debian: it lacks the packages %s", what, strings.Join(names, " "))
	}
	for _, args := range [][]string{
		{"update"},
		append([]string{"install", "--yes", "--no-install-recommends"}, names...),
	} {
		command := "apt-get " + strings.Join(args, " ")
		say(command)
		cmd := exec.CommandContext(ctx, "apt-get", append(args, "--option=DPkg::Lock::Timeout=300")...)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it leaves no package half installed then
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", command, err, tail(out))
		}
	}
	return nil
}
