package rewrite_test

import (
	"fmt"
	"os"
	"strings"

	"postern/tracking/rewrite"
)

// shortener makes URLs that say what they are for.
type shortener struct{}

func (shortener) Link(rewrite.Link) string       { return "https://t.example/click" }
func (shortener) Pixel(initial, amp bool) string { return "https://t.example/open" }

func ExampleParse() {
	header := "Content-Type: text/html\r\n"
	body := `<a href="https://shop.example/?a=1&amp;b=2">Shop</a>`

	plan := rewrite.Parse([]byte(header), []byte(body), true, rewrite.Options{
		Click:   true,
		Tracker: "https://t.example",
		MaxURL:  func(rewrite.Link) int { return len("https://t.example/click") },
	})

	var out strings.Builder
	if err := plan.Render(&out, shortener{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Println(strings.ReplaceAll(out.String(), "\r\n", "\n"))
	fmt.Println(plan.Links, "link")
	// Output:
	// Content-Type: text/html
	//
	// <a href="https://t.example/click">Shop</a>
	// 1 link
}
