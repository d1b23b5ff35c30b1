package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// writable asks access(2) whether files can be created in a folder: W_OK and X_OK.
const writable = 2 | 1

// checkStateDir checks that dir is a folder that can be written to, or can be created.
func (b *binder) checkStateDir(dir string) {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		b.problem("state_dir", "%s is a file, not a folder", dir)
		return
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		parent := dir
		for errors.Is(err, fs.ErrNotExist) && parent != filepath.Dir(parent) {
			parent = filepath.Dir(parent)
			_, err = os.Stat(parent)
		}
		dir = parent
	default:
		b.problem("state_dir", "%v", err)
		return
	}

	if err := syscall.Access(dir, writable); err != nil {
		b.problem("state_dir", "%s cannot be written by user %d: %v", dir, os.Getuid(), err)
	}
}

// warnReadable warns of a file with secrets that every user of the system may read.
func (b *binder) warnReadable(key, file, what string) {
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o004 == 0 || b.has(key) {
		return
	}

	name := filepath.Base(file)
	b.warn(key, "every user of this machine can read %s, which holds %s: chmod o-r %s", name, what, name)
}

// checkSecrets warns of files with secrets that every user of the system may read.
func (b *binder) checkSecrets(c *Config) {
	b.warnReadable("tracking.key_file", c.Tracking.KeyFile, "the keys of all tracked links")
	if c.Certs.Mode == "files" {
		b.warnReadable("certs.key_file", c.Certs.KeyFile, "a private key")
		for i, p := range c.Certs.Pairs {
			b.warnReadable(keyOf("certs.pair", i)+".key_file", p.KeyFile, "a private key")
		}
	}
	for i, k := range c.DKIM.Keys {
		b.warnReadable(keyOf("dkim.key", i)+".key_file", k.KeyFile, "a private key")
	}
	for _, key := range b.inPlace {
		b.warnReadable(key, b.file, "this secret")
	}
}
