package tenant

// Config is the tenant settings, read with prefix TENANT.
type Config struct {
	Default ID `default:"0:0" desc:"Tenant of requests whose URL names none, as <account>:<project>."`
}
