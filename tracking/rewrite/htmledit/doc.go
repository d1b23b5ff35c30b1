// Package htmledit finds the tags of an HTML document and the places in them
// that can be edited, as offsets into the document: no tree is built, nothing is
// copied, and every byte that is not edited stays what it was. It knows HTML,
// and nothing of links or pixels.
//
// A Scanner reads a document as the tokenizer of the HTML standard does
// (https://html.spec.whatwg.org/#tokenization). Where the standard needs a tree
// to decide, as for CDATA sections, the caller has to.
package htmledit
