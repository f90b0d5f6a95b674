package plugin

import (
	"fmt"
	"slices"
	"time"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// Description is what a plugin says about itself.
type Description struct {
	Name      string
	Version   string
	About     string
	Stages    []hooks.Stage
	Settings  []Setting
	Access    string        // none, headers, prefix, whole, file, stream
	Prefix    int64         // bytes of the body, with access prefix
	OnFailure string        // "defer", "pass" or "": the server's default
	Immune    []string      // "relaying", "authenticated"
	Timeout   time.Duration // 0: the server's default
	DenyAt    hooks.Stage   // until which its refusals are kept; 0: none
	Every     time.Duration // between two calls of stage tick; 0: none
	Learns    bool          // it can be taught: see Plugin.Learn
}

// Setting is a key of the [[policy]] entry that the plugin declared.
type Setting struct {
	Name     string
	Type     string // as hooks/proto lists them
	Of       string // type of the elements of a list or map
	Choices  []string
	Doc      string
	Required bool
	Default  any // plain value; durations may be text or seconds
}

// maxDeclared bounds what a plugin may declare.
const maxDeclared = 200

// reservedKeys are the names that a setting can't have: those of a [[policy]]
// entry, and stages.
func reservedKeys() []string {
	keys := []string{"use", "name", "mode", "timeout", "on_failure", "when", "immune", "deny_at", "sample", "isolate", "sha256", "run_as", "concurrency", "about", "settings", "every"}
	for _, row := range hooks.Stages() {
		keys = append(keys, row.Name)
	}
	return keys
}

// describe checks a plugin's description and reads it.
func describe(x *proto.Description) (Description, error) {
	d := Description{
		Name: x.Name, Version: oneLine(x.Version), About: oneLine(x.About), OnFailure: x.OnFailure, Immune: x.Immune,
		Prefix: x.PrefixBytes, Timeout: time.Duration(x.TimeoutMs) * time.Millisecond, Learns: x.Learns,
	}
	if x.Revision > proto.Revision {
		return d, fmt.Errorf("it needs revision %d of the plugin protocol, and this server has %d; update the server, or build the plugin with the hooks/sdk of this version", x.Revision, proto.Revision)
	}
	if !validName(x.Name) {
		return d, fmt.Errorf("its name %q is not one to 64 of a-z, 0-9, - and _", x.Name)
	}
	for _, name := range x.Stages {
		at, ok := hooks.ParseStage(name)
		if !ok {
			return d, fmt.Errorf("it asks for stage %q, which does not exist", name)
		}
		if slices.Contains(d.Stages, at) {
			return d, fmt.Errorf("it asks for stage %q twice", name)
		}
		d.Stages = append(d.Stages, at)
	}
	if len(d.Stages) == 0 {
		return d, fmt.Errorf("it asks for no stage")
	}
	names := map[proto.Access]string{
		proto.Access_ACCESS_NONE: "none", proto.Access_ACCESS_HEADERS: "headers", proto.Access_ACCESS_PREFIX: "prefix",
		proto.Access_ACCESS_WHOLE: "whole", proto.Access_ACCESS_FILE: "file",
		proto.Access_ACCESS_STREAM: "stream",
	}
	var ok bool
	if d.Access, ok = names[x.Access]; !ok {
		return d, fmt.Errorf("it asks for the message in the unknown way %d", x.Access)
	}
	if x.Access == proto.Access_ACCESS_PREFIX && (x.PrefixBytes < 1 || x.PrefixBytes > proto.MaxPrefix) {
		return d, fmt.Errorf("it asks for %d bytes of the body; 1 to %d are possible", x.PrefixBytes, proto.MaxPrefix)
	}
	if x.OnFailure != "" && x.OnFailure != "defer" && x.OnFailure != "pass" {
		return d, fmt.Errorf("its on_failure is %q, not defer or pass", x.OnFailure)
	}
	if x.TimeoutMs < 0 || x.TimeoutMs > time.Hour.Milliseconds() {
		return d, fmt.Errorf("its timeout of %d ms is not between 0 and an hour", x.TimeoutMs)
	}
	if x.DenyAt != "" {
		if d.DenyAt, _ = hooks.ParseStage(x.DenyAt); !slices.Contains(hooks.DenyStages(), d.DenyAt) {
			return d, fmt.Errorf("its deny_at is %q, which is no stage that refusals can be kept for", x.DenyAt)
		}
	}
	if d.Every = time.Duration(x.EveryMs) * time.Millisecond; x.EveryMs != 0 && (d.Every < time.Second || d.Every > maxAfter) {
		return d, fmt.Errorf("its stage tick every %d ms is not between a second and a year", x.EveryMs)
	}
	for _, who := range x.Immune {
		if who != "relaying" && who != "authenticated" {
			return d, fmt.Errorf("its immune names %q, not relaying or authenticated", who)
		}
	}
	return d, describeSettings(&d, x.Settings)
}

func describeSettings(d *Description, list []*proto.Setting) error {
	if len(list) > maxDeclared {
		return fmt.Errorf("it declares %d settings; %d are possible", len(list), maxDeclared)
	}
	reserved := reservedKeys()
	for _, s := range list {
		if !validName(s.GetName()) || slices.Contains(reserved, s.GetName()) {
			return fmt.Errorf("a setting can't have the name %q", s.GetName())
		}
		if slices.ContainsFunc(d.Settings, func(other Setting) bool { return other.Name == s.GetName() }) {
			return fmt.Errorf("it declares the setting %q twice", s.GetName())
		}
		if err := s.Sound(); err != nil {
			return err
		}
		one := Setting{Name: s.Name, Type: s.Type, Of: s.Of, Choices: s.Choices, Doc: oneLine(s.Doc), Required: s.Default == nil}
		if s.Default != nil {
			one.Default, _ = s.Default.Plain()
		}
		d.Settings = append(d.Settings, one)
	}
	return nil
}

func validName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}
