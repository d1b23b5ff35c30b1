package atomicfile_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"postern/tracking/spool/atomicfile"
)

func ExampleWrite() {
	dir, err := os.MkdirTemp("", "atomicfile")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	name := filepath.Join(dir, "offsets.json")
	for _, text := range []string{`{"acct.csv": 100}`, `{"acct.csv": 250}`} {
		if err := atomicfile.Write(name, []byte(text), atomicfile.Options{}); err != nil {
			log.Fatal(err)
		}
	}

	b, err := os.ReadFile(name)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(b))

	// Output:
	// {"acct.csv": 250}
}
