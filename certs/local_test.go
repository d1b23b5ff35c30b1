package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/integration/faultfs"
)

// TestLocalFilesSurviveFaults fails each file call once, and then all calls
// from each on, as in a power cut. A CA that clients trust must not be
// replaced, and the next call must return a certificate that it issued.
func TestLocalFilesSurviveFaults(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		fail   func(int) func(int, string) error
		old    bool // there is a CA, and a certificate for another host
		losses []faultfs.Loss
	}{
		{"a first start, once", faultfs.Once, false, nil},
		{"a first start, from then on", faultfs.From, false, faultfs.Losses},
		{"another host, once", faultfs.Once, true, nil},
		{"another host, from then on", faultfs.From, true, faultfs.Losses},
	} {
		t.Run(c.name, func(t *testing.T) {
			template := t.TempDir()
			var ca []byte
			if c.old {
				if _, err := SelfSigned(template, "old.example", now); err != nil {
					t.Fatal(err)
				}
				ca = readFile(t, CAFile(template))
			}
			for nth := 1; ; nth++ {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
					t.Fatal(err)
				}
				fsys, err := faultfs.New(dir)
				if err != nil {
					t.Fatal(err)
				}
				fsys.Fail = c.fail(nth)
				local := localFiles{dir: dir, fs: fsys}
				got, err := local.selfSigned("a.example", now)
				if err == nil && got.Leaf.VerifyHostname("a.example") != nil {
					t.Errorf("call %d fails: got a certificate for %v", nth, got.Leaf.DNSNames)
				}
				if err != nil && (!errors.Is(err, syscall.EIO) || !strings.HasPrefix(err.Error(), "certs: ") || got.Leaf != nil) {
					t.Errorf("call %d fails: got %v", nth, err)
				}
				if n := fsys.Open(); n != 0 {
					t.Errorf("call %d fails: %d files are open", nth, n)
				}

				dirs := []string{dir}
				for _, loss := range c.losses {
					after := t.TempDir()
					if err := fsys.PowerLoss(dir, after, loss); err != nil {
						t.Fatal(err)
					}
					dirs = append(dirs, after)
				}
				for i, dir := range dirs {
					if err == nil {
						pair := Pair{filepath.Join(dir, "self-signed.crt"), filepath.Join(dir, "self-signed.key")}
						if _, ferr := Files(pair.CertFile, pair.KeyFile); ferr != nil {
							t.Errorf("call %d fails, state %d: what was returned is not there: %v", nth, i, ferr)
						}
					}
					if c.old && !bytes.Equal(readFile(t, CAFile(dir)), ca) {
						t.Errorf("call %d fails, state %d: the CA was replaced", nth, i)
					}
					repaired, rerr := faultfs.New(dir) // which waits for no disk
					if rerr != nil {
						t.Fatal(rerr)
					}
					again, aerr := localFiles{dir: dir, fs: repaired}.selfSigned("a.example", now)
					if aerr != nil {
						t.Errorf("call %d fails, state %d: and again: %v", nth, i, aerr)
						continue
					}
					pool, perr := ReadPool(CAFile(dir))
					if perr != nil {
						t.Fatal(perr)
					}
					if _, verr := again.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "a.example", CurrentTime: now}); verr != nil {
						t.Errorf("call %d fails, state %d: %v", nth, i, verr)
					}
				}
				if len(fsys.Calls()) < nth {
					if nth < 14 {
						t.Errorf("only %d calls", nth-1)
					}
					break
				}
			}
		})
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}

	return data
}

// TestKeyIsWrittenBeforeItsCertificate checks that the certificate is not
// written if the key could not be.
func TestKeyIsWrittenBeforeItsCertificate(t *testing.T) {
	dir := t.TempDir()
	fsys, err := faultfs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (localFiles{dir: dir, fs: fsys}).selfSigned("a.example", time.Now()); err != nil {
		t.Fatal(err)
	}
	var renamed []string
	for _, call := range fsys.Calls() {
		if name, ok := strings.CutPrefix(call, "rename "); ok {
			renamed = append(renamed, name)
		}
	}
	if want := []string{"ca.key.new", "ca.crt.new", "self-signed.key.new", "self-signed.crt.new"}; !slices.Equal(renamed, want) {
		t.Errorf("written in the order %v, want %v", renamed, want)
	}

	fsys.Fail = func(_ int, call string) error {
		if call == "sync" {
			return syscall.EIO
		}
		return nil
	}
	before := len(fsys.Calls())
	if _, err := (localFiles{dir: dir, fs: fsys}).selfSigned("b.example", time.Now()); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
	for _, call := range fsys.Calls()[before:] {
		if strings.Contains(call, ".crt") {
			t.Errorf("after the key failed: %s", call)
		}
	}
}

// TestLocalCertificates checks the contents of the certificates.
func TestLocalCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	now := time.Date(2026, 3, 1, 0, 30, 0, 0, time.FixedZone("", 3600))
	c, err := SelfSigned(dir, "mail.example.org", now)
	if err != nil {
		t.Fatal(err)
	}
	leaf := c.Leaf
	if leaf.Subject.CommonName != "mail.example.org" || !slices.Equal(leaf.DNSNames, []string{"mail.example.org", "localhost"}) {
		t.Errorf("for %s, %v", leaf.Subject, leaf.DNSNames)
	}
	if len(leaf.IPAddresses) != 2 || !leaf.IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) || !leaf.IPAddresses[1].Equal(net.IPv6loopback) {
		t.Errorf("for %v", leaf.IPAddresses)
	}
	if leaf.NotBefore != now.Add(-time.Hour).UTC() || leaf.NotAfter != now.Add(90*24*time.Hour).UTC() {
		t.Errorf("from %s to %s", leaf.NotBefore, leaf.NotAfter)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("use %v, %v", leaf.KeyUsage, leaf.ExtKeyUsage)
	}
	if leaf.IsCA || !leaf.BasicConstraintsValid || leaf.SerialNumber.Sign() <= 0 || leaf.SerialNumber.BitLen() < 64 {
		t.Errorf("CA %v (%v), serial number %d", leaf.IsCA, leaf.BasicConstraintsValid, leaf.SerialNumber)
	}

	if len(c.Certificate) != 2 {
		t.Fatalf("%d certificates in the chain, want two", len(c.Certificate))
	}
	ca, err := x509.ParseCertificate(c.Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	if ca.Subject.CommonName != "Postern local CA 2026-02-28 23:30:00" {
		t.Errorf("the CA is %s", ca.Subject)
	}
	if ca.NotBefore != now.Add(-time.Hour).UTC() || ca.NotAfter != now.Add(3650*24*time.Hour).UTC() {
		t.Errorf("the CA is valid from %s to %s", ca.NotBefore, ca.NotAfter)
	}
	if ca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || !ca.IsCA || !ca.BasicConstraintsValid || !ca.MaxPathLenZero || ca.MaxPathLen != 0 {
		t.Errorf("the CA may %v, is one %v, path length %d (%v)", ca.KeyUsage, ca.IsCA, ca.MaxPathLen, ca.MaxPathLenZero)
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		t.Error(err)
	}
	if block, rest := pem.Decode(readFile(t, CAFile(dir))); block == nil || !bytes.Equal(block.Bytes, c.Certificate[1]) || len(rest) > 0 {
		t.Error("the CA's file is not the one of the chain")
	}

	for name, want := range map[string]os.FileMode{".": 0o700, "ca.crt": 0o644, "ca.key": 0o600, "self-signed.crt": 0o644, "self-signed.key": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v, want mode %o", name, info, err, want)
		}
	}
	for name, typ := range map[string][]string{
		"ca.crt": {"CERTIFICATE"}, "ca.key": {"PRIVATE KEY"},
		"self-signed.crt": {"CERTIFICATE", "CERTIFICATE"}, "self-signed.key": {"PRIVATE KEY"},
	} {
		data := readFile(t, filepath.Join(dir, name))
		for _, want := range typ {
			block, rest := pem.Decode(data)
			if block == nil || block.Type != want {
				t.Fatalf("%s: got %v, want %s", name, block, want)
			}
			data = rest
		}
		if len(data) > 0 {
			t.Errorf("%s holds more than that: %q", name, data)
		}
	}
}

// TestLocalCertificateIsRenewed checks that the certificate is renewed 30 days
// before it expires, and the CA 90 days before.
func TestLocalCertificateIsRenewed(t *testing.T) {
	const day = 24 * time.Hour
	began := time.Now().Truncate(time.Second)
	dir := t.TempDir()
	first, err := SelfSigned(dir, "a.example", began)
	if err != nil {
		t.Fatal(err)
	}
	ca := readFile(t, CAFile(dir))
	for _, step := range []struct {
		name     string
		after    time.Duration
		leaf, ca bool // made anew
	}{
		{"at once", 0, false, false},
		{"in 60 days less a second", 60*day - time.Second, false, false},
		{"in 60 days", 60 * day, true, false},
		{"when the CA has 90 days and a second", 3560*day - time.Second, true, false},
		{"when the CA has 90 days", 3560 * day, true, true},
	} {
		c, err := SelfSigned(dir, "a.example", began.Add(step.after))
		if err != nil {
			t.Fatal(err)
		}
		if anew := c.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0; anew != step.leaf {
			t.Errorf("%s: made anew %v, want %v", step.name, anew, step.leaf)
		}
		now := readFile(t, CAFile(dir))
		if anew := !bytes.Equal(now, ca); anew != step.ca {
			t.Errorf("%s: the CA made anew %v, want %v", step.name, anew, step.ca)
		}
		first, ca = c, now
	}
}

// TestOtherCertificatesAreReplaced checks that a certificate of another CA, and
// a CA that is not a CA, are replaced.
func TestOtherCertificatesAreReplaced(t *testing.T) {
	now := time.Now()
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if _, err := SelfSigned(d, "a.example", now); err != nil {
			t.Fatal(err)
		}
	}
	copyFile := func(from, to string) {
		if err := os.WriteFile(filepath.Join(dir, to), readFile(t, filepath.Join(other, from)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fits := func(step string) {
		t.Helper()
		c, err := SelfSigned(dir, "a.example", now)
		if err != nil {
			t.Fatal(err)
		}
		pool, err := ReadPool(CAFile(dir))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "a.example"}); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	copyFile("self-signed.crt", "self-signed.crt")
	copyFile("self-signed.key", "self-signed.key")
	fits("a certificate of another CA")
	copyFile("self-signed.crt", "ca.crt")
	copyFile("self-signed.key", "ca.key")
	fits("a CA that is none")
}

func TestSelfSignedFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := SelfSigned(filepath.Join(file, "x"), "a.example", time.Now()); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file in the way: got %v", err)
	}

	if _, err := SelfSigned(dir, "a.example", time.Now()); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "self-signed.key")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(key, 0o700); err != nil { // which no read succeeds on
		t.Fatal(err)
	}
	before := readFile(t, filepath.Join(dir, "self-signed.crt"))
	fsys, err := faultfs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := localFiles{dir: dir, fs: fsys}.selfSigned("a.example", time.Now())
	if !errors.Is(err, syscall.EISDIR) || c.Leaf != nil {
		t.Errorf("a key that cannot be read: got %v", err)
	}
	if calls := fsys.Calls(); len(calls) > 0 {
		t.Errorf("calls %v, want nothing written", calls)
	}
	if !bytes.Equal(readFile(t, filepath.Join(dir, "self-signed.crt")), before) {
		t.Error("the certificate was replaced")
	}

	if _, _, err := generatePair(&x509.Certificate{}, &tls.Certificate{Leaf: &x509.Certificate{}, PrivateKey: "none"}); err == nil {
		t.Error("a CA that cannot sign: got no error")
	}
	broken := tls.Certificate{Leaf: &x509.Certificate{}, PrivateKey: "none"}
	pair := Pair{filepath.Join(dir, "x.crt"), filepath.Join(dir, "x.key")}
	if err := (localFiles{dir: dir}).writePair(pair, &x509.Certificate{}, &broken); err == nil || !strings.HasPrefix(err.Error(), "certs: ") {
		t.Errorf("a CA that cannot sign: got %v", err)
	}
	if _, err := os.Stat(pair.KeyFile); err == nil {
		t.Error("a key without a certificate is left")
	}
}

func TestFilesAndPools(t *testing.T) {
	dir := t.TempDir()
	p := writeTestPair(t, dir, "a", "a.example", "ecdsa", 1)
	other := writeTestPair(t, dir, "b", "b.example", "ecdsa", 2)
	missing := filepath.Join(dir, "missing")
	if c, err := Files(p.CertFile, p.KeyFile); err != nil || c.Leaf.SerialNumber.Int64() != 1 {
		t.Errorf("got %v", err)
	}
	for _, c := range []struct {
		name, cert, key string
		want            string
	}{
		{"a certificate that is missing", missing, p.KeyFile, "certs: open " + missing},
		{"a key that is missing", p.CertFile, missing, "certs: open " + missing},
		{"another's key", p.CertFile, other.KeyFile, "certs: " + p.CertFile + " and its key " + other.KeyFile + ": tls: "},
		{"a key as certificate", p.KeyFile, p.KeyFile, "certs: " + p.KeyFile + " and its key " + p.KeyFile + ": tls: "},
	} {
		if _, err := Files(c.cert, c.key); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}

	if pool, err := ReadPool(p.CertFile); err != nil || pool == nil {
		t.Errorf("got %v", err)
	}
	if pool, err := ReadPool(missing); !errors.Is(err, fs.ErrNotExist) || pool != nil {
		t.Errorf("a file that is missing: got %v, %v", pool, err)
	}
	if pool, err := ReadPool(p.KeyFile); err == nil || err.Error() != "certs: "+p.KeyFile+": no PEM certificate" || pool != nil {
		t.Errorf("a file without a certificate: got %v, %v", pool, err)
	}
}

func TestServerConfigHolds(t *testing.T) {
	for given, want := range map[uint16]uint16{0: tls.VersionTLS12, tls.VersionTLS10: tls.VersionTLS12, tls.VersionTLS12: tls.VersionTLS12, tls.VersionTLS13: tls.VersionTLS13} {
		c := ServerConfig(nil, given)
		if c.MinVersion != want {
			t.Errorf("at least %x: got %x, want %x", given, c.MinVersion, want)
		}
	}
	list := []tls.Certificate{{}, {}}
	c := ServerConfig(list, 0)
	if len(c.Certificates) != 2 {
		t.Errorf("%d certificates, want 2", len(c.Certificates))
	}
	var names []string
	for _, s := range c.CipherSuites {
		names = append(names, tls.CipherSuiteName(s))
	}
	slices.Sort(names)
	want := []string{
		"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
		"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
		"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
		"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
		"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
	}
	if !slices.Equal(names, want) {
		t.Errorf("suites %v, want %v", names, want)
	}
}
