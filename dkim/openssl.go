//go:build linux && !static

package dkim

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"runtime"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// libcrypto holds the functions of OpenSSL 3 that are needed to sign.
type libcrypto struct {
	version      string
	d2iPrivate   func(kind int32, out uintptr, der *unsafe.Pointer, n int) uintptr
	newCtx       func(pkey, engine uintptr) uintptr
	freeCtx      func(ctx uintptr)
	freeKey      func(pkey uintptr)
	signInit     func(ctx uintptr) int32
	setSignature func(ctx, md uintptr) int32
	sign         func(ctx uintptr, sig *byte, n *uintptr, tbs *byte, tbsLen uintptr) int32
	sha256       uintptr
}

const (
	evpPKEYRSA = 6
	libName    = "libcrypto.so.3"
)

// loadCrypto loads the library once, and returns nil if it cannot be loaded.
var loadCrypto = sync.OnceValue(func() *libcrypto { return loadLibrary(libName) })

// loadLibrary returns nil if there is no such library, or one without the
// functions that are needed.
func loadLibrary(name string) (lib *libcrypto) {
	h, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil
	}

	defer func() { _ = recover() }() // purego panics if a function is missing

	l := &libcrypto{}
	var sha256 func() uintptr
	var version func(int32) string
	purego.RegisterLibFunc(&l.d2iPrivate, h, "d2i_PrivateKey")
	purego.RegisterLibFunc(&l.newCtx, h, "EVP_PKEY_CTX_new")
	purego.RegisterLibFunc(&l.freeCtx, h, "EVP_PKEY_CTX_free")
	purego.RegisterLibFunc(&l.freeKey, h, "EVP_PKEY_free")
	purego.RegisterLibFunc(&l.signInit, h, "EVP_PKEY_sign_init")
	purego.RegisterLibFunc(&l.setSignature, h, "EVP_PKEY_CTX_set_signature_md")
	purego.RegisterLibFunc(&l.sign, h, "EVP_PKEY_sign")
	purego.RegisterLibFunc(&sha256, h, "EVP_sha256")
	purego.RegisterLibFunc(&version, h, "OpenSSL_version")
	l.sha256 = sha256()
	l.version = version(0)

	return l
}

// opensslKey signs with libcrypto. It is safe for concurrent use: the key is only
// read, and each signature has a context of its own.
type opensslKey struct {
	lib  *libcrypto
	key  *rsa.PrivateKey // signs anything but a SHA-256 digest
	pkey uintptr
}

var errOpenSSL = errors.New("dkim: libcrypto cannot sign with this key")

// accelerate returns a signer that uses libcrypto.
func accelerate(key *rsa.PrivateKey) (crypto.Signer, error) {
	lib := loadCrypto()
	if lib == nil {
		return nil, errors.New("dkim: " + libName + " cannot be loaded")
	}

	der := x509.MarshalPKCS1PrivateKey(key)
	p := unsafe.Pointer(&der[0])
	pkey := lib.d2iPrivate(evpPKEYRSA, 0, &p, len(der))
	runtime.KeepAlive(der)
	if pkey == 0 {
		return nil, errOpenSSL
	}

	k := &opensslKey{lib: lib, key: key, pkey: pkey}
	runtime.AddCleanup(k, func(pkey uintptr) { lib.freeKey(pkey) }, pkey)

	return k, nil
}

// Public implements crypto.Signer.
func (k *opensslKey) Public() crypto.PublicKey { return k.key.Public() }

// Sign implements crypto.Signer with PKCS #1 v1.5 over a SHA-256 digest.
func (k *opensslKey) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return k.key.Sign(r, digest, opts)
	}

	defer runtime.KeepAlive(k)
	ctx := k.lib.newCtx(k.pkey, 0)
	if ctx == 0 {
		return nil, errOpenSSL
	}
	defer k.lib.freeCtx(ctx)

	if k.lib.signInit(ctx) != 1 || k.lib.setSignature(ctx, k.lib.sha256) != 1 {
		return nil, errOpenSSL
	}

	sig := make([]byte, k.key.Size())
	n := uintptr(len(sig))
	if k.lib.sign(ctx, &sig[0], &n, &digest[0], uintptr(len(digest))) != 1 {
		return nil, errOpenSSL
	}

	return sig[:n], nil
}

// opensslVersion returns the name and version of the library, and "" if it cannot
// be loaded.
func opensslVersion() string {
	if lib := loadCrypto(); lib != nil {
		return lib.version
	}

	return ""
}
