// A client of NVML in Go, by the vendor's own binding: what it sees, as one JSON object.
// Every name on standard input is looked up in the library first; the absent ones are reported.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

type device struct {
	UUID        string   `json:"uuid"`
	Name        string   `json:"name"`
	BusID       string   `json:"bus_id"`
	Total       uint64   `json:"total"`
	Used        uint64   `json:"used"`
	Pids        []uint32 `json:"pids"`
	Utilization uint32   `json:"utilization"`
	PowerMW     uint32   `json:"power_mw"`
	Links       uint32   `json:"links"`
	Instances   []string `json:"instances"`
	SmPercent   float64  `json:"sm_percent"`
	Fabric      uint32   `json:"fabric"`
}

func must(ret nvml.Return, what string) {
	if ret != nvml.SUCCESS {
		fmt.Fprintf(os.Stderr, "%s: %s\n", what, nvml.ErrorString(ret))
		os.Exit(1)
	}
}

func absent() []string {
	missing := []string{}
	names := bufio.NewScanner(os.Stdin)
	for names.Scan() {
		if err := nvml.Extensions().LookupSymbol(names.Text()); err != nil {
			missing = append(missing, names.Text())
		}
	}
	return missing
}

func instances(d nvml.Device) []string {
	found := []string{}
	if mode, _, ret := d.GetMigMode(); ret != nvml.SUCCESS || mode == 0 {
		return found
	}
	count, ret := d.GetMaxMigDeviceCount()
	must(ret, "GetMaxMigDeviceCount")
	for i := 0; i < count; i++ {
		instance, ret := d.GetMigDeviceHandleByIndex(i)
		if ret == nvml.ERROR_NOT_FOUND {
			continue
		}
		must(ret, "GetMigDeviceHandleByIndex")
		uuid, ret := instance.GetUUID()
		must(ret, "GetUUID of an instance")
		found = append(found, uuid)
	}
	return found
}

// -1 where the board has no such counters.
func smPercent(d nvml.Device) float64 {
	support, ret := d.GpmQueryDeviceSupport()
	if ret != nvml.SUCCESS || support.IsSupportedDevice == 0 {
		return -1
	}
	first, ret := nvml.GpmSampleAlloc()
	must(ret, "GpmSampleAlloc")
	second, ret := nvml.GpmSampleAlloc()
	must(ret, "GpmSampleAlloc")
	must(first.Get(d), "GpmSampleGet")
	set, ret := nvml.EventSetCreate()
	must(ret, "EventSetCreate")
	if _, ret := set.Wait(500); ret != nvml.ERROR_TIMEOUT { // waits, as it must
		must(ret, "EventSetWait")
	}
	must(set.Free(), "EventSetFree")
	must(second.Get(d), "GpmSampleGet")
	request := nvml.GpmMetricsGetType{NumMetrics: 1, Sample1: first, Sample2: second}
	request.Metrics[0].MetricId = uint32(nvml.GPM_METRIC_SM_UTIL)
	must(nvml.GpmMetricsGet(&request), "GpmMetricsGet")
	return request.Metrics[0].Value
}

func look(d nvml.Device) device {
	var seen device
	var ret nvml.Return
	seen.UUID, ret = d.GetUUID()
	must(ret, "GetUUID")
	seen.Name, ret = d.GetName()
	must(ret, "GetName")
	pci, ret := d.GetPciInfo()
	must(ret, "GetPciInfo")
	for _, c := range pci.BusId {
		if c == 0 {
			break
		}
		seen.BusID += string(rune(c))
	}
	memory, ret := d.GetMemoryInfo_v2()
	must(ret, "GetMemoryInfo_v2")
	seen.Total, seen.Used = memory.Total, memory.Used
	processes, ret := d.GetComputeRunningProcesses()
	must(ret, "GetComputeRunningProcesses")
	seen.Pids = []uint32{}
	for _, p := range processes {
		seen.Pids = append(seen.Pids, p.Pid)
	}
	if rates, ret := d.GetUtilizationRates(); ret == nvml.SUCCESS {
		seen.Utilization = rates.Gpu
	}
	seen.PowerMW, ret = d.GetPowerUsage()
	must(ret, "GetPowerUsage")
	values := []nvml.FieldValue{{FieldId: nvml.FI_DEV_NVLINK_LINK_COUNT}}
	must(nvml.DeviceGetFieldValues(d, values), "GetFieldValues")
	if nvml.Return(values[0].NvmlReturn) == nvml.SUCCESS {
		seen.Links = uint32(values[0].Value[0])
	}
	if fabric, ret := d.GetGpuFabricInfoV().V2(); ret == nvml.SUCCESS {
		seen.Fabric = uint32(fabric.State)
	}
	seen.Instances = instances(d)
	seen.SmPercent = smPercent(d)
	return seen
}

func main() {
	must(nvml.Init(), "Init")
	missing := absent()
	count, ret := nvml.DeviceGetCount()
	must(ret, "DeviceGetCount")
	devices := []device{}
	for i := 0; i < count; i++ {
		d, ret := nvml.DeviceGetHandleByIndex(i)
		must(ret, "DeviceGetHandleByIndex")
		devices = append(devices, look(d))
	}
	version, ret := nvml.SystemGetDriverVersion()
	must(ret, "SystemGetDriverVersion")
	must(nvml.Shutdown(), "Shutdown")
	out := map[string]any{"devices": devices, "driver": version, "absent": missing}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		os.Exit(1)
	}
}
