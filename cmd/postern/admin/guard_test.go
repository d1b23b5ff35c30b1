package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"postern/cmd/postern/config"
)

func TestAdminListenerAnswersToItsOwnNames(t *testing.T) {
	c := config.Default()
	c.Hostname = "mail.example.com"
	c.Admin.Hosts = []config.Host{"Metrics.example.com"}
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	guard := NewHostGuard(ok, c)

	const metrics = "/metrics"
	for _, c := range []struct {
		name, path, host string
		origin           []string
		want             int
	}{
		{"IPv4", metrics, "127.0.0.1:8025", nil, http.StatusOK},
		{"IPv4 without port", metrics, "10.0.0.7", nil, http.StatusOK},
		{"IPv6", metrics, "[::1]:8025", nil, http.StatusOK},
		{"IPv6 without port", metrics, "[2001:db8::1]", nil, http.StatusOK},
		{"localhost", metrics, "localhost:8025", nil, http.StatusOK},
		{"localhost in capitals, with a dot", metrics, "LOCALHOST.:8025", nil, http.StatusOK},
		{"hostname", metrics, "mail.example.com", nil, http.StatusOK},
		{"one of hosts", metrics, "metrics.EXAMPLE.com:80", nil, http.StatusOK},
		{"another name", metrics, "evil.example.net:8025", nil, http.StatusMisdirectedRequest},
		{"child of localhost", metrics, "a.localhost", nil, http.StatusMisdirectedRequest},
		{"child of hostname", metrics, "x.mail.example.com", nil, http.StatusMisdirectedRequest},
		{"an address as part of a name", metrics, "127.0.0.1.evil.example", nil, http.StatusMisdirectedRequest},
		{"no Host", metrics, "", nil, http.StatusMisdirectedRequest},
		{"a port alone", metrics, ":8025", nil, http.StatusMisdirectedRequest},
		{"another name on the page", "/", "evil.example.net", nil, http.StatusMisdirectedRequest},
		{"another name asks for health", healthPath, "evil.example.net", nil, http.StatusOK},
		{"another name asks for readiness", readyPath, "10-0-0-7.pods.cluster.local", nil, http.StatusOK},
		{"no Host asks for health", healthPath, "", nil, http.StatusOK},
		{"below health", healthPath + "/x", "evil.example.net", nil, http.StatusMisdirectedRequest},
		{"own origin", metrics, "localhost:8025", []string{"http://localhost:8025"}, http.StatusOK},
		{"own origin behind TLS", metrics, "localhost:8025", []string{"https://localhost:8025"}, http.StatusOK},
		{"foreign origin", metrics, "localhost:8025", []string{"http://evil.example"}, http.StatusForbidden},
		{"another port", metrics, "localhost:8025", []string{"http://localhost:3000"}, http.StatusForbidden},
		{"null origin", metrics, "localhost:8025", []string{"null"}, http.StatusForbidden},
		{"empty origin", metrics, "localhost:8025", []string{""}, http.StatusForbidden},
		{"two origins", metrics, "localhost:8025", []string{"http://localhost:8025", "http://evil.example"}, http.StatusForbidden},
		{"foreign origin asks for health", healthPath, "localhost", []string{"http://evil.example"}, http.StatusForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, c.path, nil)
			r.Host = c.host
			r.Header["Origin"] = c.origin
			w := httptest.NewRecorder()

			guard.ServeHTTP(w, r)

			if w.Code != c.want {
				t.Errorf("Host %q, Origin %q: got %d %q, want %d", c.host, c.origin, w.Code, w.Body, c.want)
			}
		})
	}
}
