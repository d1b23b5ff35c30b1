//go:build linux && !static

package dkim

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"errors"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
)

// needLibcrypto skips a test where the library is not installed, and for no
// other reason.
func needLibcrypto(t *testing.T) {
	t.Helper()
	if _, err := purego.Dlopen(libName, purego.RTLD_NOW|purego.RTLD_LOCAL); err != nil {
		t.Skipf("no libcrypto: %v", err)
	}
}

func TestFast(t *testing.T) {
	needLibcrypto(t)
	k := key(t, "rsa2048", "r")
	fast, err := k.Fast(RSAAuto)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := fast.Private.(*opensslKey); !ok {
		t.Fatalf("signs with %T, want libcrypto", fast.Private)
	}
	if a, b := sign(t, []Key{k}, simpleMessage), sign(t, []Key{fast}, simpleMessage); a != b {
		t.Errorf("the two differ:\n%s%s", a, b)
	}
	if n := failures(t, []Key{fast}, sign(t, []Key{fast}, simpleMessage)+simpleMessage); n != 0 {
		t.Error("libcrypto's signature fails")
	}
	if fast.Kind() != "rsa2048" {
		t.Errorf("kind %s, want rsa2048", fast.Kind())
	}

	slow, err := k.Fast(RSAGo)
	if err != nil || slow.Private != k.Private {
		t.Errorf("rsa = \"go\" gives %T, %v", slow.Private, err)
	}
	ed := key(t, "ed25519", "e")
	if same, err := ed.Fast(RSAAuto); err != nil || same.Kind() != "ed25519" {
		t.Errorf("an Ed25519 key becomes %T, %v", same.Private, err)
	}
}

// TestOtherDigests: what is not a SHA-256 digest is signed by crypto/rsa.
func TestOtherDigests(t *testing.T) {
	needLibcrypto(t)
	k := key(t, "rsa2048", "r")
	fast, err := k.Fast(RSAAuto)
	if err != nil {
		t.Fatal(err)
	}

	digest := sha512.Sum512([]byte("x"))
	sig, err := fast.Private.Sign(rand.Reader, digest[:], crypto.SHA512)
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(k.Private.Public().(*rsa.PublicKey), crypto.SHA512, digest[:], sig); err != nil {
		t.Errorf("SHA-512: %v", err)
	}
	if sig, err := fast.Private.Sign(rand.Reader, digest[:31], crypto.SHA256); err == nil {
		t.Errorf("31 bytes are signed as a SHA-256 digest: %x", sig)
	}
}

func TestLibraryIsNamed(t *testing.T) {
	needLibcrypto(t)
	if got := RSAImplementation(RSAAuto); !strings.HasPrefix(got, "libcrypto, OpenSSL 3.") {
		t.Errorf("signs with %q, want libcrypto, OpenSSL 3", got)
	}
	if got := RSAImplementation(RSAGo); got != "crypto/rsa" {
		t.Errorf("rsa = \"go\" signs with %q", got)
	}
}

func TestLoadLibrary(t *testing.T) {
	for _, name := range []string{"libnowhere.so.3", "libc.so.6"} {
		if lib := loadLibrary(name); lib != nil {
			t.Errorf("%s is taken for libcrypto", name)
		}
	}
}

// withLibrary puts another library in the place of libcrypto; nil: none.
func withLibrary(t *testing.T, lib *libcrypto) {
	t.Helper()
	load := loadCrypto
	loadCrypto = func() *libcrypto { return lib }
	t.Cleanup(func() { loadCrypto = load })
}

func TestWithoutLibrary(t *testing.T) {
	withLibrary(t, nil)
	k := key(t, "rsa2048", "r")

	same, err := k.Fast(RSAAuto)
	if err == nil || err.Error() != "dkim: libcrypto.so.3 cannot be loaded" || same.Private != k.Private {
		t.Errorf("got %T, %v", same.Private, err)
	}
	if got := RSAImplementation(RSAAuto); got != "crypto/rsa" {
		t.Errorf("signs with %q, want crypto/rsa", got)
	}
}

// fakeLibrary is a libcrypto that fails at one step and counts what is held.
type fakeLibrary struct {
	fails    string
	wrong    bool // it signs, and wrongly
	key      *rsa.PrivateKey
	contexts int
}

func (f *fakeLibrary) library() *libcrypto {
	ok := func(step string) int32 {
		if f.fails == step {
			return 0
		}
		return 1
	}

	return &libcrypto{
		version:    "OpenSSL fake",
		d2iPrivate: func(int32, uintptr, *unsafe.Pointer, int) uintptr { return uintptr(ok("key")) },
		newCtx: func(uintptr, uintptr) uintptr {
			if f.fails == "context" {
				return 0
			}
			f.contexts++
			return 7
		},
		freeCtx:      func(uintptr) { f.contexts-- },
		freeKey:      func(uintptr) {},
		signInit:     func(uintptr) int32 { return ok("init") },
		setSignature: func(uintptr, uintptr) int32 { return ok("digest") },
		sign: func(_ uintptr, sig *byte, n *uintptr, tbs *byte, length uintptr) int32 {
			out, err := f.key.Sign(rand.Reader, bytes.Clone(unsafe.Slice(tbs, length)), crypto.SHA256)
			if err != nil || f.fails == "sign" {
				return 0
			}
			if f.wrong {
				out[0]++
			}
			*n = uintptr(copy(unsafe.Slice(sig, *n), out))
			return 1
		},
	}
}

// TestFaultyLibrary: crypto/rsa stays where libcrypto fails at any step or signs
// otherwise, and no context is left behind.
func TestFaultyLibrary(t *testing.T) {
	for _, c := range []struct {
		fails string
		wrong bool
		want  error
	}{
		{"", false, nil},
		{"", true, errDiffers},
		{"key", false, errOpenSSL},
		{"context", false, errOpenSSL},
		{"init", false, errOpenSSL},
		{"digest", false, errOpenSSL},
		{"sign", false, errOpenSSL},
	} {
		t.Run(c.fails, func(t *testing.T) {
			k := key(t, "rsa2048", "r")
			f := &fakeLibrary{fails: c.fails, wrong: c.wrong, key: k.Private.(*rsa.PrivateKey)}
			withLibrary(t, f.library())

			fast, err := k.Fast(RSAAuto)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			if kept := fast.Private == k.Private; kept != (c.want != nil) {
				t.Errorf("crypto/rsa is kept: %v, want %v", kept, c.want != nil)
			}
			if f.contexts != 0 {
				t.Errorf("%d contexts are held", f.contexts)
			}
		})
	}
}

// TestBothFail: two signers that fail do not agree.
func TestBothFail(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	small, err := rsa.GenerateKey(rand.Reader, 512)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=1") // now crypto/rsa does not sign with it
	f := &fakeLibrary{key: small}
	withLibrary(t, f.library())

	k := Key{Domain: "example.org", Selector: "s", Private: small}
	if fast, err := k.Fast(RSAAuto); !errors.Is(err, errDiffers) || fast.Private != k.Private {
		t.Errorf("got %T, %v, want crypto/rsa and %v", fast.Private, err, errDiffers)
	}
}

// TestKeysAreFreed: what libcrypto holds of a key goes with it.
func TestKeysAreFreed(t *testing.T) {
	k := key(t, "rsa2048", "r")
	f := &fakeLibrary{key: k.Private.(*rsa.PrivateKey)}
	lib := f.library()
	freed := make(chan uintptr, 1)
	lib.freeKey = func(pkey uintptr) { freed <- pkey }
	withLibrary(t, lib)
	if _, err := accelerate(f.key); err != nil {
		t.Fatal(err)
	}

	for {
		runtime.GC()
		select {
		case pkey := <-freed:
			if pkey != 1 {
				t.Errorf("key %d is freed, want 1", pkey)
			}
			return
		case <-t.Context().Done():
			t.Fatal("the key is not freed")
		default:
			runtime.Gosched()
		}
	}
}
