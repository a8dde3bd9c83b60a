// A MongoDB for the tests, for machines without mongod: FerretDB on SQLite files.
//
// FerretDB 1's updates read, then write: of a hundred concurrent $inc few are left. MongoDB promises that the
// update of one document is atomic, so requests pass here one at a time, and the tests see what MongoDB promises.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/FerretDB/FerretDB/ferretdb"
)

const maxMessageBytes = 48_000_000 // MongoDB's own limit

// Arguments: the address to listen on, the folder of the SQLite files. It ends with its standard input, so that
// none is left behind by tests that were killed.
func main() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	address, folder := os.Args[1], os.Args[2]
	socket := filepath.Join(folder, "ferretdb.sock")
	_ = os.Remove(socket) // left by one that was killed
	database, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{Unix: socket},
		Handler:   "sqlite",
		SQLiteURL: "file:" + folder + "/",
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(database.Run(context.Background())) }()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	var turn sync.Mutex
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(client, socket, &turn)
	}
}

// serve passes one client's requests on until either side closes.
func serve(client net.Conn, socket string, turn *sync.Mutex) {
	defer client.Close()
	server, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer server.Close()
	for {
		request, err := readMessage(client)
		if err != nil {
			return
		}
		reply, err := exchange(server, request, turn)
		if err != nil {
			return
		}
		if _, err := client.Write(reply); err != nil {
			return
		}
	}
}

func exchange(server net.Conn, request []byte, turn *sync.Mutex) ([]byte, error) {
	turn.Lock()
	defer turn.Unlock()
	if _, err := server.Write(request); err != nil {
		return nil, err
	}
	return readMessage(server)
}

// readMessage reads one message of MongoDB's protocol; it begins with its length in four bytes.
func readMessage(from io.Reader) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(from, prefix[:]); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint32(prefix[:])
	if length < 16 || length > maxMessageBytes {
		return nil, errors.New("no message of MongoDB's protocol")
	}
	message := make([]byte, length)
	copy(message, prefix[:])
	_, err := io.ReadFull(from, message[4:])
	return message, err
}
