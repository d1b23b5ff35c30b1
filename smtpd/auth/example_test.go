package auth_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"postern/relay"
	"postern/relay/reply"
	"postern/smtpd/auth"
)

func ExampleUsers() {
	hash, err := auth.HashPassword("secret")
	if err != nil {
		panic(err)
	}

	users, err := auth.NewUsers(auth.Rate{N: 10, Per: time.Minute})
	if err != nil {
		panic(err)
	}
	err = users.Replace([]auth.Entry{{User: relay.User{Name: "App"}, Password: hash}})
	if err != nil {
		panic(err)
	}

	for _, password := range []string{"secret", "guess"} {
		who, err := users.Authenticate(context.Background(), auth.Credentials{
			Name:     "app",
			Password: password,
			Source:   netip.MustParseAddr("192.0.2.1"),
		})
		if err != nil {
			fmt.Println(reply.For(err))
			continue
		}
		fmt.Println("logged in as", who.User.Name)
	}
	// Output:
	// logged in as App
	// 535 5.7.8 Authentication credentials invalid
}

func ExampleCheckName() {
	fmt.Println(auth.CheckName("app"))
	fmt.Println(auth.CheckName("app:X-MSYS-SUBACCOUNT=42"))
	// Output:
	// <nil>
	// must not hold :X-MSYS-SUBACCOUNT=
}
