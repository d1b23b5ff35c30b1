package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// metric reads one value of /metrics; -1: it is not there.
func (p *process) metric(name string) float64 {
	body, err := p.get("/metrics")
	if err != nil {
		return -1
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(body)
	if m == nil {
		return -1
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return -1
	}
	return v
}

// TestServeKeepsDescriptorsBack lets strangers take all connections that they
// get, of submission and of the tracker.
func TestServeKeepsDescriptorsBack(t *testing.T) {
	t.Parallel()
	const limit = 256
	p := &process{admin: unusedAddr(t)}
	submission, tracker := unusedAddr(t), unusedAddr(t)
	file := writeConfig(t, "", fmt.Sprintf("[admin]\nlisten = %q\n", p.admin))
	replaceIn(t, file, "[submission]\nlisten = [\"127.0.0.1:0\"]", fmt.Sprintf("[submission]\nlisten = [%q]", submission))
	replaceIn(t, file, "[tracking.web]\nlisten = [\"127.0.0.1:0\"]", fmt.Sprintf("[tracking.web]\nlisten = [%q]", tracker))

	var log bytes.Buffer
	p.cmd = exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" serve --config "$1"`, limit), os.Args[0], file)
	p.cmd.Env = append(os.Environ(), asMain+"=1")
	p.cmd.Stderr = &log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	p.waitFor(t, "the health check", func() bool {
		_, err := p.get("/healthz")
		return err == nil
	})
	allowed := p.metric(`postern_connections_limit{listener="submission"}`)
	if allowed < 8 || allowed > limit/2 {
		t.Errorf("got %v connections allowed, want a part of %d", allowed, limit)
	}

	for i := range limit {
		for _, addr := range []string{submission, tracker} {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i%20+1))}}
			c, err := d.Dial("tcp", addr)
			if err != nil {
				continue // the kernel's queue is full, too
			}
			defer c.Close()
		}
	}
	p.waitFor(t, "submission to be full", func() bool {
		return p.metric(`postern_smtpd_connections_total{listener="submission",result="refused"}`) > 0
	})

	const kept = 48 // for the disk
	if open := p.metric("process_open_fds"); open < 0 || open > limit-kept {
		t.Errorf("got %v descriptors in use, want at most %d", open, limit-kept)
	}
	if err := p.stop(t); err != nil {
		t.Errorf("got %v, want status 0", err)
	}
	if !bytes.Contains(log.Bytes(), []byte("the limit of open files is 256")) {
		t.Errorf("got no word of the limit:\n%s", log.String())
	}
}
