package stack

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// browsers are the names that Chromium goes by, the first one being Debian's.
var browsers = []string{"chromium", "chromium-browser", "google-chrome"}

// findChromium makes path a link to the browser in PATH, which is installed first if there is none.
func findChromium(ctx context.Context, path string, say func(string)) error {
	browser, err := lookForOne(browsers)
	if err != nil {
		if err := debianPackages(ctx, "Chromium", browsers[:1], say); err != nil {
			return err
		}
		if browser, err = lookForOne(browsers); err != nil {
			return err
		}
	}
	return inPlace(path, func(tmp string) (string, error) {
		return "link", os.Symlink(browser, filepath.Join(tmp, "link"))
	})
}

// lookForOne is the path of the first of the programs that there is.
func lookForOne(names []string) (string, error) {
	var errs []error
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err == nil {
			return filepath.Abs(path)
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// inArchive is where a package of npm has the script that is a browser's, and maxScript the most bytes that it may have.
const (
	inArchive = "package/axe.min.js"
	maxScript = 16 << 20
)

// unpackScript lets npm fetch and verify its archive, and puts the script in it at path.
func unpackScript(ctx context.Context, p Part, path string, say func(string)) error {
	name, version, err := p.Module()
	if err != nil {
		return err
	}
	if _, err := exec.LookPath("npm"); err != nil {
		if err := debianPackages(ctx, "npm", []string{"npm"}, say); err != nil {
			return err
		}
	}
	return inPlace(path, func(tmp string) (string, error) {
		command := fmt.Sprintf("npm pack %s@%s", name, version)
		say(command)
		cmd := exec.CommandContext(ctx, "npm", "pack", "--ignore-scripts", "--silent", name+"@"+version)
		cmd.Dir = tmp
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", command, err, tail(out))
		}
		archive := filepath.Join(tmp, name+"-"+version+".tgz")
		return "script", unpackOne(archive, inArchive, filepath.Join(tmp, "script"))
	})
}

// unpackOne writes one file of an archive to path.
func unpackOne(archive, name, path string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", archive, err)
	}
	for files := tar.NewReader(plain); ; {
		header, err := files.Next()
		if err != nil {
			return fmt.Errorf("find %s in %s: %w", name, archive, err)
		}
		if header.Name != name {
			continue
		}
		if header.Size > maxScript {
			return fmt.Errorf("%s in %s has %d bytes, want at most %d", name, archive, header.Size, maxScript)
		}
		content, err := io.ReadAll(files)
		if err != nil {
			return fmt.Errorf("read %s in %s: %w", name, archive, err)
		}
		return os.WriteFile(path, content, 0o644)
	}
}
