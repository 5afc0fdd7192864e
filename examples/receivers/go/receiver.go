// Receives the relay's events: verifies each one, takes it once, and answers fast.
//
// Go 1.19 or newer:
//
//	go mod init receiver && go mod tidy
//	BASIQ_RELAY_SIGNING_SECRET=whsec_… go run receiver.go
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

const tables = `
CREATE TABLE IF NOT EXISTS webhooks (id TEXT PRIMARY KEY, received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS news (about TEXT NOT NULL PRIMARY KEY, type TEXT NOT NULL, action TEXT NOT NULL,
                                 message TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 1)`

const tell = `INSERT INTO news (about, type, action, message) VALUES (?, ?, ?, ?) ON CONFLICT (about) DO UPDATE
SET type = excluded.type, action = excluded.action, message = excluded.message, told = told + 1`

// An event has more fields; JSON that is not named here is ignored.
type event struct {
	Type, Action, UserMessage string
	JobID                     *string
	Context                   struct{ UserID *string }
}

// Whether the body, byte for byte as it came, was signed with our secret within the last five minutes.
func isGenuine(secret []byte, headers http.Header, body []byte) bool {
	id, timestamp := headers.Get("webhook-id"), headers.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || err != nil || math.Abs(float64(time.Now().Unix()-seconds)) > 5*60 {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	right := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	// There are two signatures while the secret is being replaced.
	for _, given := range strings.Split(headers.Get("webhook-signature"), " ") {
		if hmac.Equal(right, []byte(given)) {
			return true
		}
	}
	return false
}

// Does the work of an event in the transaction that remembers its id: both happen, or neither does.
func take(db *sql.DB, id string, event event) error {
	transaction, err := db.Begin()
	if err != nil {
		return err
	}
	defer transaction.Rollback() // does nothing after a commit
	remembered, err := transaction.Exec("INSERT INTO webhooks (id) VALUES (?) ON CONFLICT DO NOTHING", id)
	if err != nil {
		return err
	}
	if isNew, err := remembered.RowsAffected(); err != nil || isNew == 0 {
		return err
	}
	about := event.JobID
	if about == nil {
		about = event.Context.UserID
	}
	// Other types are accepted and ignored: later versions of the relay may have some.
	if strings.HasPrefix(event.Type, "job.") || strings.HasPrefix(event.Type, "notice.") {
		if _, err := transaction.Exec(tell, about, event.Type, event.Action, event.UserMessage); err != nil {
			return err
		}
	}
	return transaction.Commit()
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("BASIQ_RELAY_SIGNING_SECRET"), "whsec_"))
	if err != nil || len(secret) == 0 {
		log.Fatal("BASIQ_RELAY_SIGNING_SECRET is not set")
	}
	db, err := sql.Open("sqlite3", setting("DATABASE", "receiver.db")+"?_busy_timeout=2000&_txlock=immediate")
	if err == nil {
		_, err = db.Exec(tables)
	}
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		var event event
		body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, 1<<20))
		if err != nil || !isGenuine(secret, request.Header, body) {
			response.WriteHeader(http.StatusUnauthorized)
			return
		}
		if err = json.Unmarshal(body, &event); err == nil {
			err = take(db, request.Header.Get("webhook-id"), event)
		}
		if err != nil {
			log.Print("not stored: ", err) // the relay tries again
			response.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		// Answer now. What takes time, such as a call to Basiq, is done by a worker that reads `news`.
		response.WriteHeader(http.StatusNoContent)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+setting("PORT", "3001"), nil))
}
