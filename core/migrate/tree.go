package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Haraka reads YAML and JSON (which is YAML, too) where a file of sections has that form:
// karma.yaml in the place of karma.ini.

const (
	maxTree  = 1 << 20 // bytes of such a file
	maxNodes = 20000   // of it, with what its aliases stand for
)

// readTree makes sections of a tree: what is a mapping at its top is a section, the rest
// is in "main"; what is in a section's mappings has a key with dots; a list is a text with
// commas.
func readTree(text string) (ini, error) {
	out := ini{"main": {}}
	if len(text) > maxTree {
		return out, fmt.Errorf("it has more than %d MiB", maxTree>>20)
	}
	text = untabbed(text)
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return out, err
	}
	if len(doc.Content) == 0 {
		return out, nil
	}
	r := treeReader{out: out}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return out, errors.New("it is no mapping of names")
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		name, v := top.Content[i].Value, top.Content[i+1]
		for v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		if v.Kind != yaml.MappingNode {
			r.put("main", name, v, 0)
			continue
		}
		if out[name] == nil {
			out[name] = map[string]value{}
		}
		for j := 0; j+1 < len(v.Content); j += 2 {
			r.put(name, v.Content[j].Value, v.Content[j+1], 0)
		}
	}
	if r.nodes > maxNodes {
		return out, errors.New("it has too many values")
	}
	return out, nil
}

// untabbed is JSON without the tabs that YAML does not want; another text stays.
func untabbed(text string) string {
	var b bytes.Buffer
	if strings.Contains(text, "\t") && json.Compact(&b, []byte(text)) == nil {
		return b.String()
	}
	return text
}

type treeReader struct {
	out   ini
	nodes int
}

func (r *treeReader) put(section, key string, n *yaml.Node, depth int) {
	if r.nodes++; r.nodes > maxNodes || depth > 20 {
		return
	}
	switch n.Kind {
	case yaml.AliasNode:
		r.put(section, key, n.Alias, depth+1)
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			r.put(section, key+"."+n.Content[i].Value, n.Content[i+1], depth+1)
		}
	case yaml.SequenceNode:
		var list []string
		for _, one := range n.Content {
			if r.nodes++; one.Kind == yaml.ScalarNode {
				list = append(list, one.Value)
			}
		}
		r.out[section][key] = value{strings.Join(list, ","), n.Line}
	case yaml.ScalarNode:
		text := n.Value
		if n.Tag == "!!null" {
			text = ""
		}
		r.out[section][key] = value{text, n.Line}
	}
}

// settingsFile is the file that a plugin's settings are in: NAME.ini, or that name with
// the end of another form where there is no such file.
func (f *filter) settingsFile(name string) string {
	base, isINI := strings.CutSuffix(name, ".ini")
	if !isINI || exists(filepath.Join(f.dir, name)) {
		return name
	}
	for _, end := range []string{".yaml", ".yml", ".json"} {
		if exists(filepath.Join(f.dir, base+end)) {
			return base + end
		}
	}
	return name
}

// path is where a file of the source is, whatever form it has.
func (f *filter) path(name string) string { return f.source.path(f.settingsFile(name)) }

// ini is a file of sections of the source.
func (f *filter) ini(name string) ini {
	name = f.settingsFile(name)
	text, _ := f.read(name)
	if strings.HasSuffix(name, ".ini") {
		return readINI(text)
	}
	out, err := readTree(text)
	if err != nil && !f.complained[name] {
		if f.complained == nil {
			f.complained = map[string]bool{}
		}
		f.complained[name] = true
		f.note(Todo, f.path(name), 0, name, "it can't be read, so that its settings are left out: %v", err)
	}
	return out
}
