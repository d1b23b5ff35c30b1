#compdef postern
_postern() {
  local cmd='' w
  local -a list
  for w in "${(@)words[2,CURRENT-1]}"; do
    case "$cmd/$w" in /demo|/serve|/check|/passwd|/dkim|/dkim/keygen|/dkim/record|/dkim/verify|/dkim/sign|/token|/token/keygen|/token/decode|/queue|/queue/list|/queue/show|/queue/retry|/queue/drop|/events|/events/tail|/events/stats|/events/batches|/events/replay|/accounting|/report|/jobid|/completion|/version) cmd="$cmd/$w" ;; esac
  done
  case "$cmd ${words[CURRENT-1]}" in
    '/demo --state-dir') _files; return ;;
    '/serve --config') _files; return ;;
    '/serve --role') compadd -- all tracker; return ;;
    '/check --config') _files; return ;;
    '/check --role') compadd -- all tracker; return ;;
    '/check --dns') _files; return ;;
    '/passwd --config') _files; return ;;
    '/dkim/keygen --domain') _files; return ;;
    '/dkim/keygen --selector') _files; return ;;
    '/dkim/keygen --out') _files; return ;;
    '/dkim/keygen --type') compadd -- rsa2048 rsa3072 rsa4096 ed25519; return ;;
    '/dkim/record --domain') _files; return ;;
    '/dkim/record --selector') _files; return ;;
    '/dkim/record --key') _files; return ;;
    '/dkim/verify --domain') _files; return ;;
    '/dkim/verify --selector') _files; return ;;
    '/dkim/verify --key') _files; return ;;
    '/dkim/verify --dns') _files; return ;;
    '/dkim/sign --domain') _files; return ;;
    '/dkim/sign --selector') _files; return ;;
    '/dkim/sign --key') _files; return ;;
    '/token/decode --keys') _files; return ;;
    '/token/decode --host') _files; return ;;
    '/queue/list --config') _files; return ;;
    '/queue/list --n') _files; return ;;
    '/queue/show --config') _files; return ;;
    '/queue/retry --config') _files; return ;;
    '/queue/drop --config') _files; return ;;
    '/events/tail --config') _files; return ;;
    '/events/tail --type') _files; return ;;
    '/events/tail --message') _files; return ;;
    '/events/stats --config') _files; return ;;
    '/events/batches --config') _files; return ;;
    '/events/batches --n') _files; return ;;
    '/events/replay --config') _files; return ;;
    '/accounting --config') _files; return ;;
    '/accounting --socket') _files; return ;;
    '/accounting --dir') _files; return ;;
    '/report --keys') _files; return ;;
    '/report --header') _files; return ;;
  esac
  case "$cmd" in
    '') list=( 'demo:Run everything on loopback, to try it out' 'serve:Run the gateway; SIGHUP reloads, SIGTERM drains' 'check:Check a configuration and summarise it' 'passwd:Add, change, remove or list users' 'dkim:Manage signing keys and their DNS records' 'token:Manage the keys of tracked links; decode a link' 'queue:List, show, retry or drop copies in the retry spool' 'events:Show and replay the event spool' 'accounting:Convert PowerMTA'"'"'s accounting records to events' 'report:Parse bounces and complaints to JSON lines' 'jobid:Sanitise names for X-Job, one a line' 'completion:Print a completion script for a shell' 'version:Print version, commit, Go version and RSA implementation' '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' ) ;;
    '/demo') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--state-dir:Folder for keys, spools and configuration' '--verbose:Print the gateway'"'"'s log' ) ;;
    '/serve') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' '--role:Role: all or tracker (serves links only)' ) ;;
    '/check') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' '--role:Role to check: all or tracker' '--strict:Treat warnings as errors' '--online:Also check upstreams, DNS, tracking hosts and the ingest service' '--dns:DNS server for --online' ) ;;
    '/passwd') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' '--delete:Remove the user' '--list:List the users' ) ;;
    '/dkim') list=( 'keygen:Generate a key and print the DNS record to publish' 'record:Print the DNS record of a key' 'verify:Compare the published key with the one on disk; look for SPF and DMARC' 'sign:Sign a message and print it' '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' ) ;;
    '/dkim/keygen') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--domain:Signing domain (d=)' '--selector:Selector (s=)' '--out:File for the private key; it must not exist' '--type:Type: rsa2048, rsa3072, rsa4096 or ed25519' ) ;;
    '/dkim/record') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--domain:Signing domain (d=)' '--selector:Selector (s=)' '--key:Private key' '--plain:Print the record'"'"'s value alone, without name and quotes' ) ;;
    '/dkim/verify') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--domain:Signing domain (d=)' '--selector:Selector (s=)' '--key:Private key' '--dns:DNS server' ) ;;
    '/dkim/sign') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--domain:Signing domain (d=)' '--selector:Selector (s=)' '--key:Private key' ) ;;
    '/token') list=( 'keygen:Create a key file, or add a newer key to one' 'decode:Print what a tracked link contains, as JSON' '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' ) ;;
    '/token/keygen') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' ) ;;
    '/token/decode') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--keys:Key file' '--host:Tracking host of a token that is given without its URL' ) ;;
    '/queue') list=( 'list:List waiting copies, those due first at the top' 'show:Print a waiting copy, or list them if the id names several' 'retry:Retry a copy now; without an id, all of them' 'drop:Drop a copy for good, without telling its sender' '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' ) ;;
    '/queue/list') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' '--json:Print JSON' '--n:Show at most N copies' ) ;;
    '/queue/show') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' ) ;;
    '/queue/retry') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' ) ;;
    '/queue/drop') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' ) ;;
    '/events') list=( 'tail:Print events as they arrive, as JSON lines' 'stats:Count the events in the spool, and those that wait, by type' 'batches:Show what became of batches' 'replay:Return events from a file to the spool, with their ids' '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' ) ;;
    '/events/tail') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' '--type:Only events of these types or classes' '--message:Only events of this message id or queue id' '--follow:Wait for more events' '--all:Begin with the oldest event that is kept' '--raw:Print the Ingest API'"'"'s JSON, as stored' ) ;;
    '/events/stats') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' ) ;;
    '/events/batches') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' '--json:Print JSON lines' '--n:Show the N newest batches' ) ;;
    '/events/replay') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--config:Configuration file' ) ;;
    '/accounting') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--print:Print the events of files as JSON lines' '--pipe:Read records from standard input, for PowerMTA'"'"'s pipe' '--config:Configuration file' '--socket:With --pipe: the gateway'"'"'s socket (pipe_socket)' '--dir:With --pipe: a folder for records while no gateway runs' ) ;;
    '/report') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' '--keys:Token key file, to verify message ids with' '--header:Header field with the message id' ) ;;
    '/jobid') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' ) ;;
    '/completion') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' 'bash:' 'zsh:' 'fish:' ) ;;
    '/version') list=( '--help:Show context-sensitive help' '--version:Print version, commit, Go version and RSA implementation' ) ;;
  esac
  _describe postern list
  [[ ${words[CURRENT]} == -* || -z $cmd ]] || _files
}
if [[ $funcstack[1] == _postern ]]; then _postern "$@"; else compdef _postern postern; fi
