package demo

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"postern/cmd/postern/config"
	"postern/dkim"
	"postern/smtpd/auth"
	"postern/tracking/token"
)

const (
	user           = "demo"
	password       = "demo" // on loopback, for a first try
	domain         = "example.com"
	selector       = "demo"
	apiKey         = "0123456789abcdef0123456789abcdef01234567"
	submissionAddr = "127.0.0.1:2587"
	trackerAddr    = "127.0.0.1:2580"
	pageAddr       = "127.0.0.1:8025"
)

// configText is the demo's configuration, as a format.
//
//go:embed postern.toml.txt
var configText string

// sampleText is a message to send.
//
//go:embed sample.txt
var sampleText []byte

// files are those of a demo.
type files struct {
	dir    string
	config string
	sample string
	certs  string // a folder
	record string // the value of the DKIM record, to verify with
}

// writeFiles writes the configuration and the sample message, and makes keys
// and a user where there are none.
func writeFiles(dir, upstream, ingest string) (files, error) {
	f := files{
		dir:    dir,
		config: filepath.Join(dir, "postern.toml"),
		sample: filepath.Join(dir, "sample.eml"),
		certs:  filepath.Join(dir, "state", "certs"),
	}
	if err := makeTokenKeys(filepath.Join(dir, "token.keys")); err != nil {
		return f, err
	}
	if err := makeUser(filepath.Join(dir, "users.toml")); err != nil {
		return f, err
	}
	record, err := makeDKIMKey(filepath.Join(dir, "dkim.pem"))
	if err != nil {
		return f, err
	}
	f.record = record

	tracker := freeAddr(trackerAddr)
	text := fmt.Sprintf(configText,
		filepath.Join(dir, "state"),
		freeAddr(submissionAddr),
		upstream,
		"http://"+tracker,
		tracker,
		domain,
		selector,
		apiKey,
		"http://"+ingest+"/api/v1/ingest/events",
		freeAddr(pageAddr))

	return f, errors.Join(
		os.WriteFile(f.config, []byte(text), 0o600),
		os.WriteFile(f.sample, sampleText, 0o600))
}

// isMissing reports whether a file is not there.
func isMissing(file string) bool {
	_, err := os.Stat(file)
	return err != nil
}

func makeTokenKeys(file string) error {
	if !isMissing(file) {
		return nil
	}

	_, err := token.AddKey(file, time.Now())
	return err
}

func makeUser(file string) error {
	if !isMissing(file) {
		return nil
	}

	hash, err := auth.HashPassword(password)
	if err != nil {
		return err
	}
	editor := config.UsersEditor{File: file}
	_, _, err = editor.SetPassword(user, hash)

	return err
}

// makeDKIMKey returns the value of the key's DNS record.
func makeDKIMKey(file string) (record string, err error) {
	if isMissing(file) {
		_, pem, err := dkim.Generate("rsa2048")
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			return "", err
		}
	}

	key, err := dkim.ReadKey(domain, selector, file)
	if err != nil {
		return "", err
	}

	return dkim.RecordValue(key.Private)
}

// freeAddr returns want, or another port where that one is in use.
func freeAddr(want string) string {
	for _, a := range []string{want, "127.0.0.1:0"} {
		if l, err := net.Listen("tcp", a); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}

	return want
}
