# How the policy reads parameters. At load Remit puts in place of this file one that reads only
# the parameters some `where` names, so that the others (a title, a body) stay out of cache keys.
package remit.authz

params := input.intent.params

absent := {"remit.absent": true}
