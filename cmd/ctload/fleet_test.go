package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/ctload/ctload/internal/hosttest"
)

// batch holds the jobs that an engine makes of a text of docs/fleet: a script for each job, with
// the variables that the engine sets, and the script that joins the shards.
type batch struct {
	jobs  int
	shell []string // the command that takes the script
	// script returns the script and the variables of a job, from 0.
	script func(job int) (text string, env []string)
	merge  string
}

// hostedShell runs the scripts of GitHub and GitLab.
var hostedShell = []string{"bash", "-e", "-o", "pipefail", "-c"}

// podSpec is the part of a Job of Kubernetes that the test performs.
type podSpec struct {
	Spec struct {
		Completions int
		Template    struct {
			Spec struct {
				Containers []struct{ Command, Args []string }
			}
		}
	}
}

// kubernetes reads an indexed Job, and the Job that merges.
func kubernetes(t *testing.T, name string) batch {
	t.Helper()
	read := func(file string) (job podSpec) {
		if err := yaml.Unmarshal([]byte(readFile(t, "docs/fleet/"+file)), &job); err != nil {
			t.Fatal(err)
		}
		return job
	}
	job, merge := read(name), read("kubernetes-merge.yaml")
	container := job.Spec.Template.Spec.Containers[0]
	return batch{
		jobs: job.Spec.Completions, shell: container.Command,
		script: func(job int) (string, []string) {
			return container.Args[0], []string{fmt.Sprint("JOB_COMPLETION_INDEX=", job)}
		},
		merge: merge.Spec.Template.Spec.Containers[0].Args[0],
	}
}

func github(t *testing.T) batch {
	t.Helper()
	var workflow struct {
		Jobs map[string]struct {
			Strategy struct{ Matrix struct{ Shard []int } }
			Steps    []struct {
				Run string
				Env map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(readFile(t, "docs/fleet/github.yml")), &workflow); err != nil {
		t.Fatal(err)
	}
	shards := workflow.Jobs["shard"]
	if env := shards.Steps[0].Env["SHARD"]; env != "${{ matrix.shard }}" {
		t.Errorf("SHARD is %q", env)
	}
	// The artifacts of the shards come down as shards/shard-N.
	fetch := "mv runs shards; GITHUB_STEP_SUMMARY=summary\n"
	return batch{
		jobs: len(shards.Strategy.Matrix.Shard), shell: hostedShell,
		script: func(job int) (string, []string) {
			return shards.Steps[0].Run, []string{
				fmt.Sprint("SHARD=", shards.Strategy.Matrix.Shard[job]),
			}
		},
		merge: fetch + workflow.Jobs["merge"].Steps[1].Run,
	}
}

func gitlab(t *testing.T) batch {
	t.Helper()
	var pipeline struct {
		Shard struct {
			Parallel int
			Script   []string
		}
		Merge struct{ Script []string }
	}
	if err := yaml.Unmarshal([]byte(readFile(t, "docs/fleet/gitlab.yml")), &pipeline); err != nil {
		t.Fatal(err)
	}
	shards := pipeline.Shard
	return batch{
		jobs: shards.Parallel, shell: hostedShell,
		script: func(job int) (string, []string) {
			return strings.Join(shards.Script, "\n"), []string{
				fmt.Sprint("CI_NODE_INDEX=", job+1), fmt.Sprint("CI_NODE_TOTAL=", shards.Parallel),
			}
		},
		merge: strings.Join(pipeline.Merge.Script, "\n"),
	}
}

func slurm(t *testing.T) batch {
	t.Helper()
	text := readFile(t, "docs/fleet/slurm.sh")
	array := matches(`(?m)^#SBATCH --array=1-(\d+)$`, text)
	wrap := matches(`--wrap '([^']+)'`, text)
	if len(array) != 1 || len(wrap) != 1 {
		t.Fatalf("arrays %q, merges %q", array, wrap)
	}
	jobs, _ := strconv.Atoi(array[0][1])
	return batch{
		jobs: jobs, shell: []string{"sh", "-c"},
		script: func(job int) (string, []string) {
			return text, []string{
				fmt.Sprint("SLURM_ARRAY_TASK_ID=", job+1),
				fmt.Sprint("SLURM_ARRAY_TASK_COUNT=", jobs),
			}
		},
		merge: wrap[0][1],
	}
}

func nomad(t *testing.T) batch {
	t.Helper()
	var job struct {
		Job struct {
			TaskGroups []struct {
				Count int
				Tasks []struct {
					Config struct {
						Entrypoint, Args []string
						WorkDir          string `json:"work_dir"`
					}
					Env map[string]string
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, "docs/fleet/nomad.json")), &job); err != nil {
		t.Fatal(err)
	}
	group := job.Job.TaskGroups[0]
	task := group.Tasks[0]
	return batch{
		jobs: group.Count, shell: task.Config.Entrypoint,
		script: func(job int) (string, []string) {
			env := []string{fmt.Sprint("NOMAD_ALLOC_INDEX=", job)}
			for key, value := range task.Env {
				env = append(env, key+"="+value)
			}
			return "cd " + task.Config.WorkDir + "\n" + task.Config.Args[0], env
		},
		merge: "ctload merge " + task.Config.WorkDir + "/? --out whole",
	}
}

// recorder stands for ctload: it records its arguments, and makes the folder of --out, which must
// be new.
const recorder = `#!/bin/sh
printf '%s\n' "$*" >>"$CALLS"
while [ $# -gt 1 ]; do
	if [ "$1" = --out ]; then
		[ ! -e "$2" ] || { echo "$2 exists"; exit 2; }
		mkdir -p "$2" && touch "$2/run.json"
	fi
	shift
done
`

// TestFleet performs the texts for batch engines in the engines' place: the jobs make every shard
// once, a job that is made again does not meet what it left, and the merge gets all folders.
func TestFleet(t *testing.T) {
	hosttest.Program(t, "bash")
	pods := func(file string) func(t *testing.T) batch {
		return func(t *testing.T) batch { return kubernetes(t, file) }
	}
	for name, of := range map[string]func(t *testing.T) batch{
		"kubernetes":             pods("kubernetes.yaml"),
		"kubernetes-without-kvm": pods("kubernetes-without-kvm.yaml"),
		"github":                 github, "gitlab": gitlab, "slurm": slurm, "nomad": nomad,
	} {
		t.Run(name, func(t *testing.T) {
			b := of(t)
			dir, programs := t.TempDir(), t.TempDir()
			err := os.WriteFile(filepath.Join(programs, "ctload"), []byte(recorder), 0o700)
			if err != nil {
				t.Fatal(err)
			}
			var calls []string
			perform := func(script string, env ...string) {
				t.Helper()
				log := filepath.Join(t.TempDir(), "calls")
				script = strings.ReplaceAll(script, "/data", dir)
				cmd := exec.Command(b.shell[0], append(slices.Clone(b.shell[1:]), script)...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"), "CALLS="+log)
				cmd.Env = append(cmd.Env, env...)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%q: %v\n%s", script, err, out)
				}
				text, err := os.ReadFile(log)
				if err != nil {
					t.Fatal(err)
				}
				calls = append(calls, strings.TrimSpace(string(text)))
			}
			var want, got []string
			for job := range b.jobs {
				script, env := b.script(job)
				perform(script, env...)
				perform(script, env...)
				want = append(want, fmt.Sprintf("%d/%d", job+1, b.jobs))
			}
			for i := 0; i < len(calls); i += 2 {
				got = append(got, matches(`--shard (\S+)`, calls[i])[0][1])
				if calls[i] != calls[i+1] {
					t.Errorf("made again as %q, first as %q", calls[i+1], calls[i])
				}
			}
			if !slices.Equal(got, want) || b.jobs < 2 {
				t.Errorf("the jobs make the shards %q, want %q", got, want)
			}
			perform(b.merge)
			last := strings.Fields(calls[len(calls)-1])
			folders := slices.DeleteFunc(slices.Clone(last), func(word string) bool {
				_, err := os.Stat(filepath.Join(dir, word, "run.json"))
				_, abs := os.Stat(filepath.Join(word, "run.json"))
				return err != nil && abs != nil
			})
			// Beside the shards, the folder of the merge is there by now.
			if last[0] != "merge" || len(folders) != b.jobs+1 {
				t.Errorf("merged by %q, %d folders", last, len(folders))
			}
			for _, call := range calls {
				var stderr bytes.Buffer
				args := append(strings.Fields(call), "--help")
				if status := run(t.Context(), args, io.Discard, &stderr); status != statusOK {
					t.Errorf("ctload %s: exit status %d: %s", call, status, stderr.String())
				}
			}
		})
	}
}
