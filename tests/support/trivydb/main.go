// Writes a bbolt file, as Trivy reads its vulnerability database: trivydb FILE < entries.json.
// An entry is {"path": [bucket, ...], "key": key, "value": any JSON}.
package main

import (
	"encoding/json"
	"log"
	"os"

	bolt "go.etcd.io/bbolt"
)

type entry struct {
	Path  []string        `json:"path"`
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

func main() {
	var entries []entry
	if err := json.NewDecoder(os.Stdin).Decode(&entries); err != nil {
		log.Fatalf("the entries are no JSON list: %v", err)
	}
	db, err := bolt.Open(os.Args[1], 0o644, &bolt.Options{NoSync: true})
	if err != nil {
		log.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, e := range entries {
			if err := put(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
}

func put(tx *bolt.Tx, e entry) error {
	bucket, err := tx.CreateBucketIfNotExists([]byte(e.Path[0]))
	for _, name := range e.Path[1:] {
		if err != nil {
			return err
		}
		bucket, err = bucket.CreateBucketIfNotExists([]byte(name))
	}
	if err != nil {
		return err
	}
	return bucket.Put([]byte(e.Key), e.Value)
}
