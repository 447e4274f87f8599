package status

import (
	"context"
	"net/http"

	"github.com/ingestgw/ingestgw/tenant"
)

// Tenants is what operators can ask and do about tenants. It is safe for concurrent use.
type Tenants interface {
	// Describe returns all that this process knows of a tenant, for JSON, and whether it knows it at all.
	Describe(tenant.ID) (description any, known bool)
	// Invalidate makes all processes forget what they have been told of a tenant, so that they ask again. It returns when the
	// others have been told; they act within seconds.
	Invalidate(context.Context, tenant.ID) error
	// Reload reads the tenants' table again. After an error what was read before stays in force.
	Reload() error
}

// SetTenants gives the API about tenants what it is about. Until then, and in a process that receives nothing, it answers 503.
func (s *Server) SetTenants(t Tenants) { s.tenants.Store(&t) }

// tenantRoutes adds the API about tenants.
func (s *Server) tenantRoutes(mux *routes) {
	mux.HandleFunc("GET /api/v1/tenants/{id}", s.aboutTenant(func(w http.ResponseWriter, _ *http.Request, t Tenants, id tenant.ID) {
		description, known := t.Describe(id)
		if !known {
			s.sayError(w, http.StatusNotFound, "tenant "+id.String()+" is not known here: it is in no table, and has sent nothing to this process of late")
			return
		}
		s.sayJSON(w, http.StatusOK, description)
	}))
	mux.HandleFunc("POST /api/v1/tenants/{id}/invalidate", s.aboutTenant(func(w http.ResponseWriter, r *http.Request, t Tenants, id tenant.ID) {
		if err := t.Invalidate(r.Context(), id); err != nil {
			s.log.Error("cannot tell all processes to ask for a tenant anew", "tenant", id, "err", err)
			s.sayError(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	mux.HandleFunc("POST /-/reload", s.withTenants(func(w http.ResponseWriter, _ *http.Request, t Tenants) {
		if err := t.Reload(); err != nil { // who reloads has logged it
			s.sayError(w, http.StatusInternalServerError, err.Error())
			return
		}
		say(w, http.StatusOK, "reloaded\n")
	}))
}

// aboutTenant reads the tenant from the path.
func (s *Server) aboutTenant(do func(http.ResponseWriter, *http.Request, Tenants, tenant.ID)) http.HandlerFunc {
	return s.withTenants(func(w http.ResponseWriter, r *http.Request, t Tenants) {
		id, err := tenant.Parse(r.PathValue("id"))
		if err != nil {
			s.sayError(w, http.StatusBadRequest, err.Error())
			return
		}
		do(w, r, t, id)
	})
}

func (s *Server) withTenants(do func(http.ResponseWriter, *http.Request, Tenants)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t := s.tenants.Load()
		if t == nil {
			s.sayError(w, http.StatusServiceUnavailable, "this process knows no tenants: it is starting, or it only forwards (INGESTGW_ROLE=forward)")
			return
		}
		do(w, r, *t)
	}
}
