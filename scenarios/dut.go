package scenarios

import "strings"

// Configuration is one complete kernel configuration of the DUT: the dut of a file with a
// scenario's overrides applied.
type Configuration struct {
	// Kernel is a name such as "debian/bookworm", "host", or the path of a kernel image.
	Kernel string `yaml:"kernel,omitempty" jsonschema_description:"debian/bookworm, debian/trixie, ..., host (the kernel of this machine), or the path of an image; default debian/bookworm"`
	// KernelModules is the folder with the modules of a kernel given by path; "" beside a name.
	KernelModules string       `yaml:"kernel-modules,omitempty" matrix:"no" jsonschema_description:"beside a kernel given by path: its modules folder, as /lib/modules/6.12.0; default: lib/modules/RELEASE near the image, or this host's"`
	VCPUs         int          `yaml:"vcpus,omitempty" jsonschema_description:"number of CPUs of the DUT; default 1"`
	Memory        Size         `yaml:"memory,omitempty" jsonschema_description:"memory of the DUT; its kernel sizes the table by it; default 512MiB"`
	Rules         string       `yaml:"rules,omitempty" matrix:"no" jsonschema_description:"iptables-save text; a scenario replaces the tables that it gives; none: no rules"`
	Rules6        string       `yaml:"rules6,omitempty" matrix:"no" jsonschema_description:"the same for IPv6, ip6tables-save text"`
	RulesBackend  RulesBackend `yaml:"rules-backend,omitempty" jsonschema_description:"which iptables loads the rules: nft (default) or legacy"`
	NFT           string       `yaml:"nft,omitempty" matrix:"no" jsonschema_description:"an nft script, loaded after the rules; a scenario replaces it whole; none: no script"`
	IPVS          string       `yaml:"ipvs,omitempty" matrix:"no" jsonschema_description:"services of the kernel's load balancer, as ipvsadm -S saves them; a scenario replaces them whole; none: no services"`
	// The rules of NAT are part of Rules (and Rules6).
	NAT     NAT      `yaml:"nat,omitempty" jsonschema_description:"address translation by the DUT, written for the links of the lab"`
	Sysctl  Settings `yaml:"sysctl,omitempty" jsonschema_description:"kernel settings, applied in this order"`
	Buckets Count    `yaml:"buckets,omitempty" jsonschema_description:"size of the conntrack hash (nf_conntrack_buckets); the kernel's own when it is not given"`
	Modules Modules  `yaml:"modules,omitempty" jsonschema_description:"kernel modules"`
	// Refused are faulty command lines, which the DUT's own tools refuse.
	Refused []string `yaml:"refused,omitempty" jsonschema_description:"command lines of sysctl, iptables, ip6tables or nft that the tool refuses for a mistake in them: run after everything else is set; one that succeeds makes the trial invalid"`
}

// KernelIsFile reports whether the kernel is given by the path of its image.
func (c Configuration) KernelIsFile() bool {
	return strings.HasPrefix(c.Kernel, "/") || strings.HasPrefix(c.Kernel, "./") || strings.HasPrefix(c.Kernel, "../")
}

// Modules are the kernel modules that a scenario loads before its rules and sysctls, and removes
// after them.
type Modules struct {
	Load   []string `yaml:"load,omitempty" jsonschema_description:"loaded before rules and sysctls, in this order; a name may be followed by parameters, as \"nf_conntrack hashsize=4096\""`
	Remove []string `yaml:"remove,omitempty" jsonschema_description:"removed after the rules are loaded, in this order; modules that rules need cannot be"`
}

// Setting is a sysctl and its value, or a key and value chosen from a matrix.
type Setting struct {
	Key   string
	Value string
}

// Settings are sysctls in the order in which they are applied, each key once, in dotted form.
type Settings []Setting

// Get returns the value of a key.
func (s Settings) Get(key string) (string, bool) {
	for _, setting := range s {
		if setting.Key == key {
			return setting.Value, true
		}
	}
	return "", false
}

// RulesBackend is the kernel interface that iptables uses.
type RulesBackend string

// The back-ends.
const (
	BackendNFT    RulesBackend = "nft"    // iptables-nft, nf_tables
	BackendLegacy RulesBackend = "legacy" // iptables-legacy, ip_tables
)

// Words returns the valid values.
func (RulesBackend) Words() []string { return []string{string(BackendNFT), string(BackendLegacy)} }

// NAT is an address translation for which the language writes the rules.
type NAT string

// The translations.
const (
	NoNAT NAT = "none"
	// Masquerade: the router gives connections to the server link its own address there.
	Masquerade NAT = "masquerade"
	// SNAT: the same with the address written in the rule.
	SNAT NAT = "snat"
	// DNAT: connections to the router's address on the client link go to the server.
	DNAT NAT = "dnat"
	// Redirect: TCP connections from the client link end on port 80 of the DUT, whatever their
	// destination port.
	Redirect NAT = "redirect"
)

// Words returns the valid values.
func (NAT) Words() []string {
	return []string{string(NoNAT), string(Masquerade), string(SNAT), string(DNAT), string(Redirect)}
}
