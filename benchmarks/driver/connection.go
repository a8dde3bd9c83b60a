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
	return dialWith(64<<10, address, deadline)
}

// dialWith takes a buffer of that many bytes, in which each line of an answer's head must find room.
func dialWith(buffer int, address string, deadline time.Time) (*connection, error) {
	socket, err := net.DialTimeout("tcp", address, time.Until(deadline))
	if err != nil {
		return nil, err
	}
	if err := socket.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return &connection{socket: socket, reader: bufio.NewReaderSize(socket, buffer)}, nil
}

func (c *connection) close() { c.socket.Close() }

// ask sends a whole request as it is and reads the whole answer, which must have a Content-Length.
func (c *connection) ask(request []byte) (answer, error) {
	if _, err := c.socket.Write(request); err != nil {
		return answer{}, err
	}
	return c.readAnswer()
}

func (c *connection) readAnswer() (answer, error) {
	status, err := c.readHead()
	if err != nil {
		return answer{}, err
	}
	length, err := contentLength(c.head, status)
	if err != nil {
		return answer{}, err
	}
	if err = c.readBody(length); err != nil {
		return answer{}, err
	}
	return answer{status, c.head, c.body}, nil
}

// readHead reads the lines before an answer's body, those after the first one into c.head.
func (c *connection) readHead() (status int, err error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, fmt.Errorf("no HTTP: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	c.head = c.head[:0]
	for {
		line, err = c.reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return status, nil
		}
		c.head = append(c.head, line...)
	}
}

// readBody reads so many bytes into c.body.
func (c *connection) readBody(length int) error {
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	_, err := io.ReadFull(c.reader, c.body)
	return err
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
