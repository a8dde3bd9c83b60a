package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// patience is how long a run may last beyond its time: for the answers that are on their way.
const patience = 60 * time.Second

// connection is one keep-alive connection of HTTP/1.1. net/http would cost several times as much a request.
type connection struct {
	socket net.Conn
	reader *bufio.Reader
	head   []byte
	body   []byte
}

// answer is valid until the next request on its connection.
type answer struct {
	status int
	head   []byte // the lines after the first one, each with its end
	body   []byte
}

// dial opens a connection on which everything must be done by the deadline.
func dial(address string, deadline time.Time) (*connection, error) {
	socket, err := net.DialTimeout("tcp", address, time.Until(deadline))
	if err != nil {
		return nil, err
	}
	if err := socket.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return &connection{socket: socket, reader: bufio.NewReaderSize(socket, 64<<10)}, nil
}

func (c *connection) close() { c.socket.Close() }

// ask sends a whole request as it is and reads the whole answer, which must have a Content-Length.
func (c *connection) ask(request []byte) (answer, error) {
	if _, err := c.socket.Write(request); err != nil {
		return answer{}, err
	}
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return answer{}, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return answer{}, fmt.Errorf("no HTTP: %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return answer{}, err
	}
	c.head = c.head[:0]
	for {
		line, err = c.reader.ReadSlice('\n')
		if err != nil {
			return answer{}, err
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		c.head = append(c.head, line...)
	}
	length, err := contentLength(c.head, status)
	if err != nil {
		return answer{}, err
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	if _, err = io.ReadFull(c.reader, c.body); err != nil {
		return answer{}, err
	}
	return answer{status, c.head, c.body}, nil
}

// header is the value of the first header of that name, "" where there is none.
func (a answer) header(name string) string {
	for rest := a.head; len(rest) > 0; {
		line, others, _ := bytes.Cut(rest, []byte("\n"))
		given, value, found := bytes.Cut(line, []byte(":"))
		if found && bytes.EqualFold(given, []byte(name)) {
			return string(bytes.TrimSpace(value))
		}
		rest = others
	}
	return ""
}

func contentLength(head []byte, status int) (int, error) {
	value := answer{head: head}.header("Content-Length")
	if value == "" {
		if status == 204 || status == 304 {
			return 0, nil
		}
		return 0, errors.New("an answer without a Content-Length")
	}
	return strconv.Atoi(value)
}
