package server

import (
	"strings"

	"github.com/remit-io/remit/fsm"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A rule is what a method asks of its caller.
type rule struct {
	runs   runs
	reach  reach
	rights []right
	note   string // what a command's apply decides beside that, for documentation
}

// A reach says where the caller's key has to act.
type reach int

const (
	anywhere       reach = iota // a valid key is enough
	inProject                   // on the project that the request names
	inOrganisation              // on every project: a key of the built-in one
	inCluster                   // an operator's
)

// runs says which node runs a call, and what a call may be repeated after.
type runs int

const (
	anyNode  runs = iota // the node that was asked, at the state that the call asks for
	onLeader             // the leader; again only if the call certainly did nothing
	asWrite              // the leader, through the log, which remembers it: again until its outcome is known
)

// A right is a management permission and the resource that a call needs it on.
type right struct {
	permission string
	on         target
}

// A target is where a right is needed: the path as documentation writes it, when
// that is not always, and the places that a request asks for.
type target struct {
	path   string
	when   string
	expand func(c *call, req any) []place
}

// A place is a management URI, and how a denial names it: as the caller did, so
// that it tells nobody which id belongs to a name.
type place struct{ uri, sent string }

// rules has a row for each method. A method without one is denied.
var rules = map[string]rule{
	"PermissionsService/CreatePermission": {runs: asWrite, reach: inProject, rights: []right{{"permission.create", organisation}}},
	"PermissionsService/GetPermission":    {reach: inProject, rights: []right{{"permission.get", permissionInPath}}},
	"PermissionsService/UpdatePermission": {runs: asWrite, reach: inProject, rights: []right{{"permission.update", permissionInPath}, {"permission.update", newPermissionName}}},
	"PermissionsService/DeletePermission": {runs: asWrite, reach: inProject, rights: []right{{"permission.delete", permissionInPath}}},
	"PermissionsService/ListPermissions":  {reach: inProject, rights: []right{{"permission.list", organisation}}},
	"PermissionsService/CreateRole": {runs: asWrite, reach: inProject, rights: []right{
		{"role.create", organisation}, {"permission.get", permissionsInBody}, {"role.update", existingRole},
	}},
	"PermissionsService/GetRole":    {reach: inProject, rights: []right{{"role.get", roleInPath}}},
	"PermissionsService/UpdateRole": {runs: asWrite, reach: inProject, rights: []right{{"role.update", roleInPath}, {"role.update", newRoleName}}},
	"PermissionsService/DeleteRole": {runs: asWrite, reach: inProject, rights: []right{{"role.delete", roleInPath}}},
	"PermissionsService/ListRoles":  {reach: inProject, rights: []right{{"role.list", organisation}}},
	"PermissionsService/GrantUserPermissionsAndRolesOnResource": {runs: asWrite, reach: inProject, rights: []right{
		{"permission.get", permissionsInBody}, {"role.get", rolesInBody}, {"principal.assignment.create", user},
	}, note: "in project `remit` also every permission granted, roles expanded, on the resource URI or above"},
	"PermissionsService/RevokeUserPermissionsAndRolesOnResource": {runs: asWrite, reach: inProject, rights: []right{{"principal.assignment.delete", resource}},
		note: "the role `owner` is taken from a key by owners, from an operator's by operators, and never from the last"},
	"PermissionsService/GetUserPermissionsAndRolesOnResource": {reach: inProject, rights: []right{{"principal.assignment.get", resource}}},
	"PermissionsService/ListPrincipals":                       {reach: inProject, rights: []right{{"principal.list", organisation}}},
	"PermissionsService/GetAllAssignmentsForPrincipal":        {reach: inProject, rights: []right{{"principal.assignment.list", principal}}},
	"PermissionsService/Check":                                {reach: inProject},

	"OrganisationService/CreateOrganisation":         {runs: asWrite, reach: inCluster},
	"OrganisationService/GetOrganisation":            {reach: inOrganisation, rights: []right{{"organisation.get", organisationInPath}}},
	"OrganisationService/ListOrganisations":          {reach: inCluster},
	"OrganisationService/UpdateOrganisation":         {runs: asWrite, reach: inOrganisation, rights: []right{{"organisation.update", organisationInPath}}},
	"OrganisationService/DeleteOrganisation":         {runs: asWrite, reach: inCluster, note: "not while it has an operator's key"},
	"OrganisationService/CreateProject":              {runs: asWrite, reach: inOrganisation, rights: []right{{"project.create", organisation}}},
	"OrganisationService/GetProject":                 {reach: inProject, rights: []right{{"project.get", projectInPath}}},
	"OrganisationService/GetProjectsForOrganisation": {reach: inOrganisation, rights: []right{{"project.get", organisation}}},
	"OrganisationService/DeleteProject":              {runs: asWrite, reach: inProject, rights: []right{{"project.delete", projectInPath}}},
	"OrganisationService/CreateAPIKey": {runs: asWrite, reach: inProject, rights: []right{{"apiKeys.create", projectInPath}},
		note: "with a role also every permission of the role, on `/organisation/{org}`; an operator's key only by an operator"},
	"OrganisationService/ListAPIKeys": {reach: inProject, rights: []right{{"apiKeys.list", projectInPath}}},
	"OrganisationService/InvalidateAPIKey": {runs: asWrite, reach: inProject, rights: []right{{"apiKeys.invalidate", projectInPath}},
		note: "an operator's key only by an operator, an owner's only by an owner; the last of each stays"},
	"OrganisationService/WhoAmI": {},

	"ClusterService/ListMembers":        {reach: inCluster},
	"ClusterService/GetStatus":          {reach: inCluster},
	"ClusterService/Join":               {reach: inCluster, note: "on a node that belongs to no cluster the one to be joined judges the key"},
	"ClusterService/AddMember":          {runs: onLeader, reach: inCluster},
	"ClusterService/Leave":              {reach: inCluster},
	"ClusterService/RemoveMember":       {runs: onLeader, reach: inCluster},
	"ClusterService/TransferLeadership": {runs: onLeader, reach: inCluster},
	"ClusterService/Promote":            {runs: onLeader, reach: inCluster},
	"ClusterService/Demote":             {runs: onLeader, reach: inCluster},
	"ClusterService/SaveSnapshot":       {reach: inCluster},
	"ClusterService/BeginRestore":       {runs: asWrite, reach: inCluster},
	"ClusterService/RestoreChunk":       {runs: asWrite, reach: inCluster},
	"ClusterService/CommitRestore":      {runs: asWrite, reach: inCluster},
	"ClusterService/Verify":             {runs: onLeader, reach: inCluster},
}

// methodOf returns "Service/Method": a service may be registered under more than
// one package.
func methodOf(fullMethod string) string {
	service := fullMethod[:max(strings.LastIndexByte(fullMethod, '/'), 0)]
	return strings.TrimPrefix(fullMethod[strings.LastIndexByte(service, '.')+1:], "/")
}

func denied(format string, args ...any) error {
	return status.Errorf(codes.PermissionDenied, "Permission denied: "+format, args...)
}

// authorize is the one point where a call is allowed or denied, before anything
// that the request names is looked up for an answer. It returns the rights that
// the call needs, for the command to carry.
func (c *call) authorize() ([]fsm.Requirement, error) {
	r, ok := rules[methodOf(c.method)]
	if !ok {
		return nil, denied("method '%s' is not open to anyone", c.method)
	}
	if err := c.reaches(r.reach); err != nil {
		return nil, err
	}
	if len(r.rights) == 0 {
		return nil, nil
	}
	actor, own := c.actor(), fsm.ManagementURI(c.organisation.ID)
	requires := make([]fsm.Requirement, 0, len(r.rights))
	for _, needed := range r.rights {
		places := needed.on.expand(c, c.request)
		suffixes := make([]string, 0, len(places))
		for _, p := range places {
			if !c.organisation.Holds(actor, needed.permission, p.uri) {
				return nil, fsm.Denied(needed.permission, p.sent)
			}
			suffixes = append(suffixes, strings.TrimPrefix(p.uri, own))
		}
		if len(suffixes) > 0 {
			requires = append(requires, fsm.Requirement{Permission: needed.permission, Prefix: own, Suffixes: suffixes})
		}
	}
	return requires, nil
}

// reaches fails unless the caller's key acts where the method does. What it says
// is the same whether or not what the request names exists.
func (c *call) reaches(r reach) error {
	if r == inCluster {
		if !c.state.IsOperator(c.key.ID) {
			return denied("only operators of the cluster may call %s", methodOf(c.method))
		}
		return nil
	}
	if r == anywhere || c.key.Project == fsm.BuiltInProject {
		return nil
	}
	if r == inProject {
		// A request may leave the project out where that means those that it sees.
		name := c.request.(interface{ GetProjectName() string }).GetProjectName()
		if name == "" || name == c.key.Project {
			return nil
		}
	}
	return denied("the API key is of project %s and acts on that project only: use a key of project %s",
		quote(c.key.Project), quote(fsm.BuiltInProject))
}
