package labs

import "github.com/ctload/ctload/vm/libvirt"

// Pace holds the times of a lab that an experiment does not set, as measured on hosts of two cores.
type Pace struct {
	Lab       float64 // seconds to make the lab, once
	Boot      float64 // seconds until the nodes of a trial answer
	Around    float64 // seconds of a trial besides boot, load, recovery and the lead of probes
	PerSecond float64 // attempts that a load offers and completes where the answers set its pace
	Early     bool    // the DUT boots while the trial before it ends
}

// The paces of this host's machines.
var (
	EmulatedPace = Pace{Lab: 1.5, Boot: 2.8, Around: 2.2, PerSecond: 900, Early: true}
	KVMPace      = Pace{Lab: 1.5, Boot: 1.2, Around: 1, PerSecond: 6000, Early: true}
)

var (
	namespacesPace = Pace{Lab: 0.5, Boot: 0.1, Around: 0.3, PerSecond: 10000}
	boxPace        = Pace{Lab: 60, Boot: 15, Around: 3, PerSecond: 900}
)

// Expected is a pace that a lab may have.
type Expected struct {
	Pace
	Parallel int    // concurrent trials
	Note     string // for the user, after the estimated time; may be empty
}

// Paces returns the paces that the lab may have, before the lab exists. cache is as in [Order].
func (c Choice) Paces(cache string) []Expected {
	d, err := c.driver()
	if err != nil {
		return nil
	}
	return d.paces(c, cache)
}

// always returns the pace of a lab that has only one.
func always(pace Pace) func(Choice, string) []Expected {
	return func(Choice, string) []Expected { return []Expected{{pace, 1, ""}} }
}

func pacesConnected(c Choice, _ string) []Expected {
	pace := KVMPace
	if c.Accelerator == libvirt.TCG {
		pace = EmulatedPace
	}
	return []Expected{{pace, max(1, c.Parallel), ""}}
}

func pacesEmbedded(c Choice, cache string) []Expected {
	switch refused, _ := libvirt.KVMRefused(cache); {
	case c.Accelerator == libvirt.TCG || c.Accelerator == "" && refused != "":
		return []Expected{{EmulatedPace, 1, " without KVM"}}
	case c.Accelerator == libvirt.KVM:
		return []Expected{{KVMPace, 1, " with KVM"}}
	default: // only a boot tells whether it works
		return []Expected{{KVMPace, 1, " with KVM"}, {EmulatedPace, 1, " if it does not work here"}}
	}
}
