package hooks

import (
	"errors"
	"fmt"

	"github.com/postern-mta/postern/core/message"
)

// maxBodyEdits bounds the changes of one message's body.
const maxBodyEdits = 20

// ErrBody is what a failure wraps where a body was to be changed and could not
// be. Such a message is never accepted as it is, whatever the policy's failure
// mode: it may hold what was to be taken out.
var ErrBody = errors.New("the body can't be changed")

// editBody makes a new body out of tx's, which stays where it is and is referred
// to. For a footer it tells how it was added, or why not.
func editBody(tx *Transaction, e Edit) (done string, err error) {
	if tx.Body == nil || tx.Header == nil {
		return "", fmt.Errorf("%w: it is not there yet", ErrBody)
	}
	if tx.bodyEdits++; tx.bodyEdits > maxBodyEdits {
		return "", fmt.Errorf("%w: more than %d times", ErrBody, maxBodyEdits)
	}
	tx.Body, tx.Content, done, err = EditBody(tx.Header, tx.Body, tx.Content, e)
	return done, err
}

// EditBody is a message as an edit leaves it, of its header section, which is
// changed, its body, and where the content begins in that (0: not known). Body is
// referred to, and stays as it is. For a footer it tells how it was added, or why
// not. On an error the header section may be changed in part.
func EditBody(h *message.Header, body message.Body, start int64, e Edit) (edited message.Body, begins int64, done string, err error) {
	var content message.Body
	if e.Kind == ReplaceBody {
		text, err := message.ReplaceText(h, e.Value, e.Name)
		if err != nil {
			return body, start, "", fmt.Errorf("%w: %w", ErrBody, err)
		}
		content = message.Bytes(text)
	} else if content, done, err = addFooter(h, body, start, e); err != nil {
		return body, start, "", fmt.Errorf("%w: %w", ErrBody, err)
	}
	if content == nil {
		return body, start, done, nil
	}
	head := h.Section()
	return message.Edited{Head: head, Rest: content}, int64(len(head)), done, nil
}

func addFooter(h *message.Header, body message.Body, start int64, e Edit) (content message.Body, done string, err error) {
	fields, ok := e.Any.(map[string]any)
	if !ok {
		return nil, "", errors.New("a footer is a table of text, html and top")
	}
	var f message.Footer
	for name, v := range fields {
		switch name {
		case "text":
			f.Text, ok = v.(string)
		case "html":
			f.HTML, ok = v.(string)
		case "top":
			f.Top, ok = v.(bool)
		default:
			ok = false
		}
		if !ok {
			return nil, "", fmt.Errorf("%q does not belong to a footer, or is of another type: text and html are texts, top is true or false", name)
		}
	}
	if start == 0 {
		if start, err = message.ContentStart(body); err != nil {
			return nil, "", err
		}
	}
	return f.Add(h, body, start)
}
