package stack

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// javaNeeded is the oldest Java that Kafka 4 runs on.
const javaNeeded = 17

//go:embed pom.xml
var pom []byte

// fetch lets Maven put Kafka's jars into the folder path, unless it is there. What that and running them need is installed first.
func fetch(ctx context.Context, p Part, path string, say func(string)) error {
	_, err := os.Stat(path)
	jarsMissing := err != nil
	if err := needJava(ctx, jarsMissing, say); err != nil || !jarsMissing {
		return err
	}
	artifact, version, err := p.Module()
	if err != nil {
		return err
	}
	return inPlace(path, func(tmp string) (string, error) {
		if err := os.WriteFile(filepath.Join(tmp, "pom.xml"), pom, 0o644); err != nil {
			return "", err
		}
		say(fmt.Sprintf("mvn dependency:copy-dependencies, of %s:%s", artifact, version))
		cmd := exec.CommandContext(ctx, "mvn", "--batch-mode", "--quiet", "--strict-checksums",
			"-Dkafka.version="+version, "-DoutputDirectory="+filepath.Join(tmp, "jars"), "org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies")
		cmd.Dir = tmp
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("mvn dependency:copy-dependencies: %w\n%s", err, tail(out))
		}
		return "jars", nil
	})
}

// needJava installs Java, and Maven too if that is asked for, unless they are there.
func needJava(ctx context.Context, maven bool, say func(string)) error {
	var packages []string
	noJava := findJava(ctx)
	if noJava != nil {
		packages = append(packages, fmt.Sprintf("openjdk-%d-jre-headless", javaNeeded))
	}
	if _, err := exec.LookPath("mvn"); maven && err != nil {
		packages = append(packages, "maven")
	}
	if len(packages) == 0 {
		return nil
	}
	if err := debianPackages(ctx, fmt.Sprintf("Java %d or newer and Maven", javaNeeded), packages, say); err != nil {
		return errors.Join(noJava, err)
	}
	if noJava != nil {
		if err := trustTheMachine(ctx); err != nil {
			return err
		}
	}
	return findJava(ctx)
}

// findJava returns nil when the java in PATH is new enough.
func findJava(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "java", "-version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("java -version: %w", err)
	}
	if release := javaRelease(string(out)); release < javaNeeded {
		return fmt.Errorf("the java in PATH is of release %d, and Kafka needs %d", release, javaNeeded)
	}
	return nil
}

// javaRelease is 17 for `openjdk version "17.0.15" 2025-04-15`, and 1 for all up to Java 8. 0 is none.
func javaRelease(text string) int {
	found := regexp.MustCompile(`version "(\d+)`).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	release, _ := strconv.Atoi(found[1]) // digits; 0 when there are too many
	return release
}

// trustTheMachine lets a Java that has just been installed trust whom the machine trusts. Its package overlooks certificates that
// somebody has put into the folder by hand, such as a proxy's. The hook is one of update-ca-certificates(8), and changes
// nothing but Java's own list.
func trustTheMachine(ctx context.Context) error {
	const hook = "/etc/ca-certificates/update.d/jks-keystore"
	if _, err := os.Stat(hook); err != nil {
		return nil //nolint:nilerr // another Java than Debian's has its own list
	}
	certificates, err := filepath.Glob("/etc/ssl/certs/*.pem")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, hook)
	cmd.Stdin = strings.NewReader("+" + strings.Join(certificates, "\n+") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", hook, err, tail(out))
	}
	return nil
}
