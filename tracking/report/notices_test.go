package report

import (
	"strings"
	"testing"
)

// TestNotices reads notices in the form of many mail systems, and in many
// languages.
func TestNotices(t *testing.T) {
	for _, c := range []struct {
		name string
		kind Kind
		want string // recipient status class hard
		mail string
	}{
		{"Exchange Online, German", Bounce, "bob@contoso.com 5.1.10 10 true", `
From: Microsoft Outlook <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@contoso.com>
Subject: =?utf-8?Q?Unzustellbar:_Fr=C3=BChlingsangebot?=
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/html; charset=utf-8

<html><body><p>Ihre Nachricht an <a href="mailto:bob@contoso.com">bob@contoso.com</a> konnte nicht zugestellt werden.</p><p>bob wurde unter contoso.com nicht gefunden.</p></body></html>
--b
Content-Type: message/delivery-status

Reporting-MTA: dns;AM0PR01.prod.exchangelabs.com

Final-Recipient: rfc822;bob@contoso.com
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient bob@contoso.com not found by SMTP address lookup

--b--
`},
		{"Exchange 2003, German", Bounce, "bob@firma.example 5.1.1 10 true", `
From: Systemadministrator <postmaster@firma.example>
Subject: Unzustellbar: Newsletter
Content-Type: text/plain; charset=utf-8

Ihre Nachricht hat einige oder alle Empfänger nicht erreicht.

      Betreff:  Newsletter
      Gesendet am:      01.02.2020 10:00

Folgende Empfänger konnten nicht erreicht werden:

      bob@firma.example am 01.02.2020 10:01
            Das E-Mail-Konto ist in der Organisation, an die diese Nachricht gesendet wurde, nicht vorhanden. Überprüfen Sie die E-Mail-Adresse.
            <mail.firma.example #5.1.1>
`},
		{"Exchange 2007, French", Bounce, "bob@ent.example 5.1.1 10 true", `
From: Administrateur système <postmaster@ent.example>
Subject: =?utf-8?Q?Non_remis=C2=A0:_Soldes?=
Content-Type: text/plain; charset=utf-8

Votre message n'a pas été remis aux destinataires suivants :

bob@ent.example
   L'adresse de messagerie est introuvable.
   #550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##
`},
		{"QQ, Chinese", Bounce, "bob@qq.com  10 true", `
From: "postmaster@qq.com" <10000@qq.com>
Subject: =?utf-8?B?57O757uf6YCA5L+hL1N5c3RlbSBib3VuY2U=?=
Content-Type: text/html; charset=utf-8

<html><body><div>抱歉，您的邮件被退回来了……</div><div>主题：Spring sale</div><div>收件人：<a>bob@qq.com</a></div><div>退信原因：收件人邮件地址（bob@qq.com）不存在，邮件无法送达。</div><div>host mx3.qq.com[1.2.3.4] said: 550 Mailbox not found. http://service.mail.qq.com/ (in reply to RCPT TO command)</div></body></html>
`},
		{"Coremail, Chinese", Bounce, "bob@163.com  10 true", `
From: Postmaster@163.com
Subject: =?utf-8?B?57O757uf6YCA5L+h?=
Content-Type: text/plain; charset=utf-8

很抱歉，您发送的邮件被退回，以下是该邮件的相关信息：

被退回邮件：主题：促销
收件人：bob@163.com
退信原因：邮箱不存在  SMTP error, RCPT TO: 550 User not found: bob@163.com
`},
		{"GroupWise", Bounce, "bob@gw.example  10 true", `
From: Mailer-Daemon@gw.example
Subject: Message status - undeliverable
Content-Type: text/plain

The message that you sent was undeliverable to the following:
	bob (user not found)

Possibly truncated original message follows:

X-Sp-Message-Id: aaa
To: bob@gw.example
Subject: x
`},
		{"MDaemon", Bounce, "bob@dead.example 5.1.1 10 true", `
From: MDaemon at mail.example <mdaemon@mail.example>
Subject: Permanent Delivery Failure
Content-Type: text/plain

The attached message had PERMANENT fatal delivery errors!

After one or more unsuccessful delivery attempts the attached message has
been removed from the mail queue on this server.  The number and frequency
of delivery attempts are determined by local configuration parameters.

YOUR MESSAGE WAS NOT DELIVERED TO ONE OR MORE RECIPIENTS!

Failed address: bob@dead.example

--- Session Transcript ---
 Wed 2020-01-01 10:00:00: Parsing message <xxxx>
 Wed 2020-01-01 10:00:01: --> RCPT To:<bob@dead.example>
 Wed 2020-01-01 10:00:01: <-- 550 5.1.1 <bob@dead.example>: Recipient address rejected: User unknown
--- End Transcript ---
`},
		{"hMailServer", Bounce, "bob@dead.example 5.1.1 10 true", `
From: mailer-daemon@mail.example
Subject: Message undeliverable: Spring sale
Content-Type: text/plain

Your message did not reach some or all of the intended recipients.

   Sent: Wed, 1 Jan 2020 10:00:00 +0100
   Subject: Spring sale

The following recipient(s) could not be reached:

bob@dead.example
   Error Type: SMTP
   Remote server (192.0.2.1) issued an error.
   hMailServer sent: RCPT TO:<bob@dead.example>
   Remote server replied: 550 5.1.1 Mailbox does not exist
`},
		{"Kerio", Bounce, "bob@kerio.example  22 false", `
From: Mail Delivery Subsystem <mailer-daemon@kerio.example>
Subject: Undeliverable mail
Content-Type: text/plain

Your message

  Subject: Sale: user unknown

could not be delivered to the following recipient(s):

<bob@kerio.example>: 552 Quota exceeded
`},
		{"web.de", Bounce, "bob@web.de  10 true", `
From: "WEB.DE MailerDaemon" <mailer-daemon@web.de>
Subject: Mail delivery failed: returning message to sender
Content-Type: text/plain; charset=utf-8

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to
one or more of its recipients. This is a permanent error.

The following address failed:

bob@web.de:
SMTP error from remote server for RCPT TO command, host: mx-ha02.web.de (212.227.17.8) reason: 550 Requested action not taken: mailbox unavailable
For explanation visit https://postmaster.gmx.net/
`},
		{"MailEnable", Bounce, "bob@dead.example  10 true", `
From: "Postmaster" <postmaster@me.example>
Subject: Message Delivery Failure
Content-Type: text/plain

MailEnable: Message could not be delivered to some recipients.
The following recipient(s) could not be reached:

	Recipient: [SMTP:bob@dead.example]
	Reason: Remote SMTP Server Returned: 550 No such user here

Message headers follow:
From: x@y.example
To: bob@dead.example
Subject: hi
`},
		{"CommuniGate", Bounce, "bob@dead.example 5.1.1 10 true", `
From: <MAILER-DAEMON@cg.example>
Subject: Undeliverable mail: Sale
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

Failed to deliver to 'bob@dead.example'
SMTP module(domain dead.example) reports:
 host mx.dead.example says:
 550 5.1.1 User unknown

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; cg.example

Original-Recipient: rfc822;bob@dead.example
Final-Recipient: system;bob@dead.example
Action: failed
Status: 5.0.0
--b--
`},
		{"Gmail, no such domain", Bounce, "bob@dead.example 4.0.0 21 false", `
From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>
X-Failed-Recipients: bob@dead.example
Auto-Submitted: auto-replied
Subject: Delivery Status Notification (Failure)
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain; charset=utf-8

** Address not found **

Your message wasn't delivered to bob@dead.example because the domain dead.example couldn't be found. Check for typos or unnecessary spaces and try again.

The response was:

DNS Error: DNS type 'mx' lookup of dead.example responded with code NXDOMAIN Domain name not found: dead.example
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; googlemail.com

Final-Recipient: rfc822; bob@dead.example
Action: failed
Status: 4.0.0
Diagnostic-Code: smtp; DNS Error: DNS type 'mx' lookup of dead.example responded with code NXDOMAIN
 Domain name not found: dead.example
--b--
`},
		{"in Italian", Bounce, "bob@libero.it  22 false", `
From: Mail Delivery Subsystem <MAILER-DAEMON@libero.it>
Subject: =?utf-8?Q?Messaggio_non_consegnato?=
Content-Type: text/plain; charset=utf-8

Gentile utente, il messaggio non è stato consegnato al seguente destinatario:

bob@libero.it

La casella del destinatario è piena.
`},
		{"a delay in Russian", Delay, "bob@mail.ru  24 false", `
From: Mail Delivery System <Mailer-Daemon@mail.ru>
Auto-Submitted: auto-replied
Subject: =?utf-8?B?0JfQsNC00LXRgNC20LrQsCDQtNC+0YHRgtCw0LLQutC4?=
Content-Type: text/plain; charset=utf-8

Ваше сообщение пока не доставлено одному или нескольким получателям:

  bob@mail.ru
    retry timeout

Попытки доставки будут продолжены.
`},
		{"in Japanese", Bounce, "bob@docomo.ne.jp  10 true", `
From: Mail Delivery Subsystem <MAILER-DAEMON@docomo.ne.jp>
Subject: =?utf-8?B?44Ko44Op44O844Oh44O844Or?=
Content-Type: text/plain; charset=utf-8

次の宛先へのメールを配信できませんでした。

<bob@docomo.ne.jp>

宛先のアドレスが見つかりませんでした。
`},
		{"in Polish", Bounce, "bob@wp.pl 5.1.1 10 true", `
From: Mail Delivery System <MAILER-DAEMON@wp.pl>
Subject: =?utf-8?Q?Niedostarczona_wiadomo=C5=9B=C4=87?=
Content-Type: text/plain; charset=utf-8

Wiadomość nie została dostarczona do: bob@wp.pl

Powód: 550 5.1.1 Nie ma takiego użytkownika
`},
		{"in Spanish", Bounce, "bob@telefonica.example  22 false", `
From: Postmaster <postmaster@telefonica.example>
Subject: No se puede entregar: Rebajas
Content-Type: text/plain; charset=utf-8

No se pudo entregar el mensaje a los siguientes destinatarios:

bob@telefonica.example
El buzón del destinatario está lleno y no puede aceptar mensajes. 
`},
		{"in Portuguese", Bounce, "bob@uol.com.br  10 true", `
From: MAILER-DAEMON@uol.com.br
Subject: Falha no envio da mensagem
Content-Type: text/plain; charset=utf-8

Sua mensagem não pode ser entregue para: bob@uol.com.br

Motivo: usuário inexistente
`},
		{"in Dutch", Bounce, "bob@ziggo.nl 5.1.1 10 true", `
From: Mail Delivery System <mailer-daemon@ziggo.nl>
Subject: Onbestelbaar: aanbieding
Content-Type: text/plain; charset=utf-8

Uw bericht kon niet worden bezorgd bij de volgende ontvanger:

bob@ziggo.nl

De reden: 550 5.1.1 Gebruiker onbekend
`},
		{"Domino with a report", Bounce, "bob@notes.example 5.1.1 10 true", `
From: Mail Router <mailrouter@notes.example>
Subject: DELIVERY FAILURE: User bob (bob@notes.example) not listed in Domino Directory
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

Your message

  Subject: Sale

was not delivered to:

  bob@notes.example

because:

  User bob (bob@notes.example) not listed in Domino Directory

--b
Content-Type: message/delivery-status

Reporting-MTA: dns;notes.example

Final-Recipient: rfc822;bob@notes.example
Action: failed
Status: 5.1.1
Diagnostic-Code: X-Notes; User bob (bob@notes.example) not listed in Domino Directory
--b--
`},
		{"MailEnable's, which calls itself a reply", Bounce, "bob@example.com  10 true", `
From: "Delivery Subsystem" <POSTMASTER@example.net>
Subject: Message Delivery Failure
Precedence: bulk
Auto-Submitted: auto-replied
Content-Type: text/plain

MailEnable: Message could not be delivered to some recipients.
The following recipient(s) could not be reached:

	Recipient: [SMTP:bob@example.com]
	Reason: Remote SMTP Server Returned: 550 Requested action not taken: mailbox unavailable or not local.

Message headers follow:
`},
		{"Exim's of an alias", Bounce, "bob@example.com  1 false", `
From: Mail Delivery System <Mailer-Daemon@example.com>
Subject: Mail delivery failed: returning message to sender
Content-Type: text/plain

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  an undisclosed address
    (generated from bob@example.com)

------ This is a copy of the message, including all the headers. ------
`},
		{"LSMTP's", Bounce, "bob@example.com  25 false", `
From: "LSMTP for Windows NT v1.1b" <postmaster@mail.example.com>
Subject: Undelivered mail
Content-Type: text/plain

An error was detected while processing the enclosed message.

--> Error description:
Error-for:  bob@example.com
Error-Code: 0
Error-Text: Mailer mail.example.com said:
            "554 Message looping (received 6 times)"

Error-End:  One error reported.
`},
		{"whose mail is not wanted", Bounce, "", `
From: "Mail Delivery Subsystem" <MAILER-DAEMON@aol.com>
Subject: Mail Delivery Problem
Content-Type: text/plain

Your mail to the following recipients could not be delivered because
they are not accepting mail from news@shop.example:
	screenname
`},
		{"a message that is shown indented", Bounce, "list@example.com  25 false", `
From: list-admin@example.com
Subject: Loop Alert: Duplicated Message-ID (list ML)
Content-Type: text/plain

Duplicated Message-ID in <list@example.com>.

Original mail as follows:

   From news@shop.example  Thu Apr 29 23:34:45 2017
   Return-Path: <news@shop.example>
   Received: from shop.example by example.com; Thu, 29 Apr 2017 23:34:45 +0900
   To: <list@example.com>
   Subject: Sale
`},
		{"a mailbox's filter that refused", Bounce, "bob@example.com  22 false", `
From: Mail Delivery Subsystem <admin@example.com>
Subject: Automatically rejected mail
Auto-Submitted: auto-replied (rejected)
Precedence: bulk
Content-Type: multipart/report; report-type=disposition-notification; boundary=b

--b
Content-Type: text/plain; charset=utf-8

Your message to <bob@example.com> was automatically rejected:
Quota exceeded
--b
Content-Type: message/disposition-notification

Reporting-UA: mail; Dovecot Mail Delivery Agent
Original-Recipient: rfc822; bob@example.com
Final-Recipient: rfc822; mailbox-7@example.com
Disposition: automatic-action/MDN-sent-automatically; deleted

--b--
`},
		{"a message that was deleted unread", AutoReply, "", `
From: Bob <bob@example.com>
Subject: Not read: Sale
Auto-Submitted: auto-replied
Content-Type: multipart/report; report-type=disposition-notification; boundary=b

--b
Content-Type: text/plain; charset=utf-8

Your message was deleted without being read; the mailbox is full.
--b
Content-Type: message/disposition-notification

Final-Recipient: rfc822; bob@example.com
Disposition: automatic-action/MDN-sent-automatically; deleted

--b--
`},
		{"what Amazon delivered", Delivered, "bob@example.com 2.6.0 0 false", `
From: AWS Notifications <no-reply@sns.amazonaws.com>
Subject: AWS Notification Message
Content-Type: text/plain

{"notificationType":"Delivery","delivery":{"recipients":["bob@example.com"],"smtpResponse":"250 2.6.0 Message received"}}
`},
		{"a transcript", Bounce, "bob@aol.com  10 true", `
From: Mail Delivery Subsystem <MAILER-DAEMON@aol.com>
Subject: Returned mail: User unknown
Content-Type: text/plain

The original message was received at Wed, 1 Jan 2020

*** ATTENTION ***
Your e-mail is being returned to you because there was a problem with its delivery.

   ----- The following addresses had permanent fatal errors -----
<bob@aol.com>

   ----- Transcript of session follows -----
... while talking to air-xj02.mail.aol.com.:
>>> RCPT To:<bob@aol.com>
<<< 550 MAILBOX NOT FOUND
550 <bob@aol.com>... User unknown
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Parse(crlf(c.mail))
			var got []string
			for _, x := range r.Recipients {
				got = append(got, strings.Join([]string{x.Address(), x.Status, itoa(x.Class), boolean(x.Hard)}, " "))
			}
			if r.Kind != c.kind || strings.Join(got, "; ") != c.want {
				t.Errorf("got %s %q, want %s %q: %+v", r.Kind, got, c.kind, c.want, r.Recipients)
			}
		})
	}
}
