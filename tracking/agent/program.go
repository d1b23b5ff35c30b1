package agent

// Program describes the program that sent a User-Agent field, in the form in which
// events report it (user_agent_parsed).
type Program struct {
	AgentFamily  string `json:"agent_family,omitempty"`
	OSFamily     string `json:"os_family,omitempty"`
	OSVersion    string `json:"os_version,omitempty"`
	DeviceBrand  string `json:"device_brand,omitempty"`
	DeviceFamily string `json:"device_family,omitempty"`
	IsMobile     bool   `json:"is_mobile"`
	IsProxy      bool   `json:"is_proxy"`
	IsPrefetched bool   `json:"is_prefetched"`
}
